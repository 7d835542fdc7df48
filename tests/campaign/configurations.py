"""Configurations of ``fit`` whose keys and values are changed."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from random import Random
from typing import Any

import yaml

from campaign.inputs import COMMANDS, base
from campaign.judge import Expected, Mutation, Rule

__all__ = ["OUT_OF_RANGE", "RULES", "Key", "at", "leaves", "misspelt", "mutation", "text_of", "wrong_type"]

Key = tuple[str | int, ...]

OUT_OF_RANGE: dict[str, tuple[Any, ...]] = {
    "batches.batch_size": (-3, 0, 1, 76, 10**9, 2.5),
    "batches.held_out": (-1, 0, 1, 99, 100, 10**12, 3.5),
    "batches.num_workers": (-1, 0.5),
    "checkpoint_every": (-1, 0, 1.5),
    "seed": (-1, 2**32, 10**20, 0.1),
    "trainer.max_steps": (0, -2, 2.5),
    "trainer.val_check_interval": (0, -1, -0.5),
    "trainer.limit_val_batches": (-1, -0.1, 1.5),
    "trainer.log_every_n_steps": (-1, 0.5),
    "trainer.accumulate_grad_batches": (0, -1, 1.5),
    "trainer.gradient_clip_val": (-1.0,),
    "trainer.precision": (7, "8-true", "double double"),
    "trainer.accelerator": ("abacus", "cuda:9", "gpus"),
    "training.optimizer.init_args.lr": (-0.1, -1e-9),
    "training.temperature.init_args.start": (0.0, -1.0),
    "training.temperature.init_args.end": (0.0, -0.5),
    "training.temperature.init_args.steps": (0, -1, 1.5),
    "training.trim": (-0.1, 1.0, 2),
    "model.init_args.gaussian.z": (0, -1, 1.5),
    "model.init_args.discrete.level": (1, 0, -4, 2.5),
    "guide.init_args.gaussian.z": (0, -1, 3),
    "guide.init_args.discrete.level": (1, 0, -4, 5),
    "model.init_args.decoder.init_args.hidden": ([0], [-1], [1.5]),
    "guide.init_args.encoder.init_args.hidden": ([0], [-1], [1.5]),
    "model.init_args.decoder.init_args.image_shape": ([1, 8], [1, 8, 0], [1, 8, 9], [3, 8, 8], [-1, 8, 8], []),
    "guide.init_args.encoder.init_args.image_shape": ([1, 8], [1, 8, 0], [1, 8, 9], [3, 8, 8], [-1, 8, 8], []),
}
"""Values of options that have no meaning, by what the docs say of them and by the 100 images of 8 × 8."""


OTHER_WORDS = ("batch size", "the observed site", "the guide", "the model", "the programs")
"""What a refusal may name instead of a key: where the key's value is seen to be wrong."""


def leaves(node: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every value of a configuration that is no mapping, with its key."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from leaves(value, (*key, name))
    else:
        yield key, node


def at(node: Any, key: Key) -> Any:
    for name in key:
        node = node[name]
    return node


def _keys(node: Any, key: Key = ()) -> Iterator[Key]:
    """Keys of every mapping within."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield (*key, name)
            yield from _keys(value, (*key, name))


def text_of(config: Any) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def mutation(
    work: Path, content: Any, what: str, expected: Expected, *names: str, recorded: dict[str, Any] | None = None
) -> Mutation:
    """Writes a configuration, as a mapping or as text or bytes."""
    file = work / "config.yaml"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content if isinstance(content, str) else text_of(content), encoding="utf-8")
        if not isinstance(content, str) and recorded is None:
            recorded = content
    return Mutation(what, COMMANDS["fit"], expected, names, recorded)


def _names(key: Key, *more: Any) -> tuple[str, ...]:
    """What a refusal may name: the innermost keys, or the value."""
    inner = (*key[-1:], *(key[-2:-1] if key[-1] in ("class_path", "init_args") else ()))
    return (*map(str, inner), *map(str, more), *OTHER_WORDS)


def _required(config: Any, key: Key) -> bool:
    """Whether it cannot be left out: the programs and the data, and arguments without a default."""
    if len(key) == 1:
        return key[0] in ("model", "guide", "data")
    if key[-1] == "class_path":
        return True
    if len(key) > 1 and key[-2] == "init_args":
        made = resolve_name(at(config, key[:-2])["class_path"])
        return inspect.signature(made).parameters[str(key[-1])].default is inspect.Parameter.empty
    return key[-1] == "init_args" and any(_required(config, (*key, name)) for name in at(config, key))


def left_out(rng: Random, work: Path) -> Mutation:
    """A key is left out."""
    config = base()
    key = rng.choice([*_keys(config)])
    expected = Expected.REFUSED if _required(config, key) else Expected.FAITHFUL
    del at(config, key[:-1])[key[-1]]
    inside = [str(name) for name in (at(base(), key) if isinstance(at(base(), key), dict) else ())]
    return mutation(work, config, f"without {key}", expected, *_names(key), *inside, *map(str, key[-3:]), "class_path")


def misspelt(rng: Random, name: str) -> str:
    """A name with one letter doubled, dropped, swapped, added or in the other case."""
    place = rng.randrange(len(name))
    other = rng.choice(
        [
            name[:place] + name[place] + name[place:],
            name[:place] + name[place + 1 :],
            name[:place] + name[place : place + 2][::-1] + name[place + 2 :],
            name + rng.choice("_sé x"),
            name[:place] + name[place].swapcase() + name[place + 1 :],
        ]
    )
    return other if other not in (name, "") else name + "x"


def renamed(rng: Random, work: Path) -> Mutation:
    """A key is misspelt."""
    config = base()
    key = rng.choice([*_keys(config)])
    inner, old = at(config, key[:-1]), str(key[-1])
    new = misspelt(rng, old)
    items = [(new if name == old else name, value) for name, value in inner.items()]
    inner.clear()
    inner.update(items)
    return mutation(work, config, f"{key} as {new!r}", Expected.REFUSED, old, new, *map(str, key[-3:-1]))


def wrong_type(rng: Random, value: Any) -> Any:
    """A value of a type that no option of this kind has."""
    choices: list[Any] = ["much", ["much", "more"], {"wrong": 1}, [[["deep"]]], "2026-11-28", "1,000"]
    if isinstance(value, str):
        choices = [7, 0.5, True, ["much", "more"], {"wrong": 1}, [], "", "no such thing"]
    elif isinstance(value, int | float):
        choices += [True, [], [value, value, value], {}]
    return rng.choice(choices)


def other_type(rng: Random, work: Path) -> Mutation:
    """A value has another type."""
    config = base()
    key, old = rng.choice([*leaves(config)])
    new = wrong_type(rng, old)
    at(config, key[:-1])[key[-1]] = new
    return mutation(
        work, config, f"{key}: {new!r}", Expected.REFUSED, *_names(key, new), "class_path", *map(str, key[-3:])
    )


def nothing(rng: Random, work: Path) -> Mutation:
    """A value or a group is null."""
    config = base()
    key = rng.choice([*_keys(config)])
    at(config, key[:-1])[key[-1]] = None
    return mutation(work, config, f"{key}: null", Expected.FAITHFUL, *_names(key), "null", *map(str, key[-3:]))


def out_of_range(rng: Random, work: Path) -> Mutation:
    """A value is out of its range."""
    config = base()
    name = rng.choice([*OUT_OF_RANGE])
    value = rng.choice(OUT_OF_RANGE[name])
    key = tuple(name.split("."))
    inner = config
    for part in key[:-1]:
        if part == "optimizer":
            inner.setdefault("optimizer", {"class_path": "torch.optim.Adam", "init_args": {}})
        inner = inner[part]
    inner[key[-1]] = value
    return mutation(work, config, f"{name}: {value}", Expected.REFUSED, *_names(key), *map(str, key[-4:]), "schedule")


def not_finite(rng: Random, work: Path) -> Mutation:
    """A number is NaN or infinite."""
    config = base()
    key, _ = rng.choice([(key, value) for key, value in leaves(config) if isinstance(value, int | float)])
    value = rng.choice([float("nan"), float("inf"), -float("inf")])
    at(config, key[:-1])[key[-1]] = value
    return mutation(work, config, f"{key}: {value}", Expected.REFUSED, *_names(key), "schedule", str(value), "finite")


def huge(rng: Random, work: Path) -> Mutation:
    """A number is huge, or tiny."""
    config = base()
    numbers = [(key, value) for key, value in leaves(config) if isinstance(value, int | float)]
    key, old = rng.choice([(key, value) for key, value in numbers if key[-1] != "max_steps"])
    size = rng.choice([4, 6, 9, 18, 30, 100, 300])
    choices = (
        [10**size, -(10**size), float(10**size), float(10**-size)]
        if isinstance(old, int)
        else [10.0**size, 10.0**-size]
    )
    value = rng.choice(choices)
    at(config, key[:-1])[key[-1]] = value
    return mutation(work, config, f"{key}: {value:.3g}", Expected.FAITHFUL)


def misplaced(rng: Random, work: Path) -> Mutation:
    """A key stands in another group, or a level too high."""
    config = base()
    keys = [*_keys(config)]
    key = rng.choice([key for key in keys if len(key) > 1])
    groups = [(), *(group for group in keys if isinstance(at(config, group), dict))]
    target = rng.choice([group for group in groups if key[-1] not in at(config, group) and group[: len(key)] != key])
    value = at(config, key[:-1]).pop(key[-1])
    at(config, target)[key[-1]] = value
    names = (*_names(key), *map(str, key[-3:]), *map(str, target[-2:]))
    return mutation(work, config, f"{key} in {target}", Expected.REFUSED, *names, "class_path", "model", "guide")


def wrapped(rng: Random, work: Path) -> Mutation:
    """A group stands in a list, in a text or in a mapping of its own."""
    config = base()
    key = rng.choice([key for key in _keys(config) if isinstance(at(config, key), dict)])
    inner = at(config, key[:-1])
    value = inner[key[-1]]
    inner[key[-1]] = rng.choice([[value], {key[-1]: value}, [[value]], [value, value], f"{value} {value}"])
    return mutation(work, config, f"{key} wrapped", Expected.REFUSED, *map(str, key[-3:]), *map(str, value))


def other_class(rng: Random, work: Path) -> Mutation:
    """A class path names nothing, no class, or one for another place."""
    config = base()
    key = rng.choice([key for key in _keys(config) if key[-1] == "class_path"])
    paths = (
        "os.getcwd",
        "os",
        "nowhere.Model",
        "torch.nn.Nothing",
        "builtins.dict",
        "torch.Tensor",
        "torch.nn",
        "json.dumps",
    )
    path = rng.choice([*paths, "pathlib.Path", "yaml.safe_load", ".", "a..b", "torch.nn.", "collections.OrderedDict"])
    at(config, key[:-1])["class_path"] = path
    return mutation(work, config, f"{key}: {path}", Expected.REFUSED, path, str(key[-2]))


RULES: dict[Rule, int] = {
    left_out: 50,
    renamed: 50,
    other_type: 60,
    nothing: 40,
    out_of_range: 60,
    not_finite: 30,
    huge: 50,
    misplaced: 50,
    wrapped: 30,
    other_class: 40,
}
"""How many inputs each rule makes."""
