"""Run folders in which files are missing, damaged or others, and the runs of strangers."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

from campaign.configurations import leaves, wrong_type
from campaign.data_files import damaged
from campaign.inputs import COMMANDS
from campaign.judge import Expected, Mutation, Rule

__all__ = ["RULES"]

READS = {
    **dict.fromkeys(("evaluate", "traverse", "check", "load"), ("config.yaml", "last.ckpt")),
    "resume": ("config.yaml", "last.ckpt", "versions.json", "metrics.csv"),
}
"""Which files a command reads; ``report`` reads them all."""

WEIGHTS = {"report": 5, "load": 3, "resume": 3, "evaluate": 2, "traverse": 1, "check": 1}


def _command(rng: Random) -> str:
    return rng.choices([*WEIGHTS], [*WEIGHTS.values()])[0]


def _files(work: Path) -> list[Path]:
    """The files of the run; not the lock, and not the page that ``report`` writes anew."""
    return sorted(
        path for path in (work / "run").rglob("*") if path.is_file() and path.name not in (".lock", "report.html")
    )


def _damage(work: Path, file: Path, command: str, what: str, *, gone: bool = False) -> Mutation:
    """A command on a run with one damaged file: what it does not read must not matter."""
    name = file.name
    if command == "report":
        expected = Expected.REFUSED if name == "config.yaml" and gone else Expected.SOUND
    elif command == "resume" and "csv" in file.parts:
        expected = Expected.SOUND  # the history is joined of what can be read
    elif name in READS[command]:
        needed = name in ("config.yaml", "last.ckpt")
        expected = Expected.REFUSED if needed and gone else Expected.EITHER
    else:
        expected = Expected.EQUAL
    place = str(file.relative_to(work))
    names = () if name == "config.yaml" else (place, f"'{place}'", name)
    return Mutation(f"{place}: {what}", COMMANDS[command], expected, names)


def missing(rng: Random, work: Path) -> Mutation:
    """A file is missing."""
    file = rng.choice(_files(work))
    file.unlink()
    return _damage(work, file, _command(rng), "missing", gone=True)


def damaged_file(rng: Random, work: Path) -> Mutation:
    """Bits or bytes of a file are others, or missing."""
    files = [file for file in _files(work) if file.name != "last.ckpt"]
    file = rng.choice([file for file in files if file.suffix != ".png"] * 3 + files)
    content, what, _ = damaged(rng, file.read_bytes() or b"\0")
    file.write_bytes(content)
    return _damage(work, file, _command(rng), what)


def rubbish(rng: Random, work: Path) -> Mutation:
    """A file is empty, text, random bytes, or another file of the run."""
    file = rng.choice(_files(work))
    kind = rng.choice(["empty", "text", "bytes", "zeros", "other"])
    others = [other for other in _files(work) if other.suffix != file.suffix]
    contents = {"empty": b"", "text": b"hello\n", "bytes": rng.randbytes(999), "zeros": bytes(999)}
    file.write_bytes(contents[kind] if kind in contents else rng.choice(others).read_bytes())
    return _damage(work, file, _command(rng), kind, gone=True)


def folder_or_link(rng: Random, work: Path) -> Mutation:
    """A folder, a link to itself or a link out of the run is in the place of a file or of a folder."""
    paths = [path for path in sorted((work / "run").rglob("*")) if path.name != ".lock"]
    path = rng.choice(paths)
    command = _command(rng)
    kind = rng.choice(["folder", "loop", "out", "out", "dangling"])
    outside = work / "outside"
    if path.is_dir():
        shutil.move(path, outside)
        kind = "out" if kind == "folder" else kind
    elif kind == "out":
        shutil.move(path, outside)
    else:
        path.unlink()
    if kind == "folder":
        path.mkdir()
        return (
            _damage(work, path, command, kind, gone=True)
            if path.name != "report.html" or command != "report"
            else (Mutation("report.html: folder", COMMANDS[command], Expected.REFUSED, ("report.html",)))
        )
    path.symlink_to({"loop": path.name, "out": outside, "dangling": "/nowhere/at/all"}[kind])
    place = str(path.relative_to(work))
    return Mutation(f"{place}: {kind}", COMMANDS[command], Expected.REFUSED, (place, "run"))


def _nodes(node: Any, key: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys of every value in JSON."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        yield (*key, name)
        yield from _nodes(value, (*key, name))


def _replace(content: Any, key: tuple[Any, ...], value: Any) -> None:
    for name in key[:-1]:
        content = content[name]
    content[key[-1]] = value


def json_values(rng: Random, work: Path) -> Mutation:
    """Values in a JSON file are of other types, missing, or not finite."""
    file = rng.choice([file for file in _files(work) if file.suffix == ".json"])
    content = json.loads(file.read_text())
    what = []
    for _ in range(rng.choice([1, 1, 2, 5])):
        if not (keys := [*_nodes(content)]):
            break
        key = rng.choice(keys)
        value = rng.choice(
            [None, True, -1, 10**30, float("nan"), float("inf"), "word", "<evil>", [], {}, [[1]], {"a": {"b": 1}}]
        )
        _replace(content, key, value)
        what.append(f"{key}: {value!r}")
    file.write_text(json.dumps(content))
    return _damage(work, file, "report" if rng.random() < 0.7 else _command(rng), ", ".join(what)[:150])


def names_outside(rng: Random, work: Path) -> Mutation:
    """The record of pictures names files outside of its folder, or of the user."""
    command = rng.choice(["traverse", "check", "report"])
    folder = work / "run" / ("checks" if command == "check" else "pictures")
    names = [
        "../../notes.txt",
        str(work / "notes.txt"),
        "../../data.npz",
        "../config.yaml",
        "..",
        ".",
        "/",
        "",
        "../checkpoints/last.ckpt",
    ]
    names += [
        "mine.png/../../../notes.txt",
        "~/notes.txt",
        "\0",
        "x" * 5000,
        "a.png\n",
        "../outside.png",
        str(work / "outside.png"),
    ]
    (work / "outside.png").write_bytes(b"the user's own picture")
    step = rng.choice([0, 1, 2, 99, None, "3"])
    (folder / "drawn.json").write_text(json.dumps({"step": step, "files": rng.sample(names, 6)}))
    expected = Expected.SOUND if command == "report" else Expected.EQUAL
    return Mutation(f"{folder.name}, step {step}", COMMANDS[command], expected, stranger=rng.random() < 0.5)


def markup(rng: Random, work: Path) -> Mutation:
    """Texts of the run are markup, which the page must show as text."""
    evil = rng.choice(
        ["<evil>", "</script><evil>", "'><evil>", '"><evil x="', "{{7*7}}<evil>", "--><evil>", "]]><evil>"]
    )
    file = rng.choice([file for file in _files(work) if file.suffix in (".json", ".csv", ".txt", ".yaml")])
    text = file.read_text()
    if file.suffix == ".json":
        content = json.loads(text)
        keys = [key for key in _nodes(content) if isinstance(key[-1], str)]
        for key in rng.sample(keys, min(5, len(keys))):
            inner = content
            try:
                for name in key[:-1]:
                    inner = inner[name]
                old = inner.pop(key[-1]) if rng.random() < 0.5 else inner[key[-1]]
                inner[key[-1] + evil if key[-1] not in inner else key[-1]] = old if key[-1] not in inner else evil
            except (KeyError, TypeError, IndexError):
                continue
        file.write_text(json.dumps(content))
    else:
        lines = text.splitlines()
        place = rng.randrange(len(lines))
        lines[place] = lines[place] + (f"  # {evil}" if file.suffix == ".yaml" else f",{evil}")
        file.write_text("\n".join(lines))
    return Mutation(f"{file.name}: {evil}", COMMANDS["report"], Expected.SOUND)


def foreign_class(rng: Random, work: Path) -> Mutation:
    """The run of a stranger names a class of a module that lies beside it, or a way round to a function."""
    file = work / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    shutil.copy(work / "stranger.py", work / "run")
    places = {
        "model": "Model",
        "guide": "Guide",
        "data": "Data",
        "objective": "Objective",
        "training.optimizer": "Optimizer",
        "training.temperature": "Schedule",
        "model.init_args.decoder": "Decoder",
        "guide.init_args.encoder": "Encoder",
        "objective.init_args.between": "Schedule",
        "trainer.callbacks": "Callback",
    }
    place = rng.choice([*places])
    ways = [
        "torch.nn.modules.module.torch.load",
        "torch.optim.optimizer.torch.hub.load",
        "torch.nn.functional.os.system",
        "torch.hub.load",
    ]
    ways += [
        "pyro_hfvae.data.root.os.mkdir",
        "pyro_hfvae.cli.main",
        "os.mkdir",
        "subprocess.Popen",
        "pickle.load",
        "torch.load",
        "builtins.eval",
    ]
    path = f"stranger.{places[place]}" if rng.random() < 0.6 else rng.choice(ways)
    *outer, last = place.split(".")
    inner = config
    for name in outer:
        inner = inner[name]
    old = inner.get(last)
    arguments = old.get("init_args", {}) if isinstance(old, dict) and rng.random() < 0.7 else {"path": "../sentinel"}
    named = {"class_path": path, "init_args": arguments}
    inner[last] = [named] if last == "callbacks" else named
    file.write_text(yaml.safe_dump(config))
    command = rng.choice(["resume", "evaluate", "traverse", "check", "load"])
    return Mutation(
        f"{place}: {path}", COMMANDS[command], Expected.REFUSED, (path, path.rpartition(".")[2], last), stranger=True
    )


def other_configuration(rng: Random, work: Path) -> Mutation:
    """A value of the run's configuration has another type."""
    file = work / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    chosen = [
        (key, value)
        for key, value in leaves(config)
        if value is not None and key[0] not in ("run", "trainer", "checkpoint_every")
    ]
    key, old = rng.choice(chosen)
    inner = config
    for name in key[:-1]:
        inner = inner[name]
    inner[key[-1]] = new = wrong_type(rng, old)
    file.write_text(yaml.safe_dump(config))
    command = rng.choice(["resume", "evaluate", "load"])
    return Mutation(f"{key}: {new!r}", COMMANDS[command], Expected.EITHER, stranger=rng.random() < 0.5)


def other_data(rng: Random, work: Path) -> Mutation:
    """The split or the data of a run are others than it was trained with."""
    file = work / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    kind = rng.choice(["seed", "held_out", "own split"])
    if kind == "seed":
        config["seed"] = rng.randrange(2, 1000)
    else:
        config["batches"]["held_out"] = rng.choice([n for n in range(8, 60) if n != 30]) if kind == "held_out" else None
    file.write_text(yaml.safe_dump(config))
    command = rng.choice(["resume", "evaluate", "load", "traverse", "check"])
    return Mutation(
        f"{kind}: {config['seed']}, {config['batches']['held_out']}", COMMANDS[command], Expected.REFUSED, ("run",)
    )


def stranger_as_it_is(rng: Random, work: Path) -> Mutation:
    """The run of a stranger that names only what it may, or one that was moved with its data: the same results."""
    return Mutation(
        "as it is",
        COMMANDS[rng.choice(["resume", "evaluate", "traverse", "check", "load"])],
        Expected.EQUAL,
        stranger=True,
    )


RULES: dict[Rule, int] = {
    missing: 40,
    damaged_file: 70,
    rubbish: 50,
    folder_or_link: 50,
    json_values: 60,
    names_outside: 20,
    markup: 40,
    foreign_class: 60,
    other_configuration: 30,
    other_data: 20,
    stranger_as_it_is: 5,
}
