"""Configurations of ``fit`` whose text is changed: styles, encodings, rubbish, letters."""

import copy
import json
from pathlib import Path
from random import Random

import yaml

from campaign.configurations import mutation, text_of
from campaign.inputs import COMMANDS, base
from campaign.judge import Expected, Mutation, Rule

__all__ = ["RULES"]


def twice(rng: Random, work: Path) -> Mutation:
    """A key is there twice."""
    lines = text_of(base()).splitlines()
    place = rng.choice([number for number, line in enumerate(lines) if ":" in line and not line.endswith(":")])
    key = lines[place].partition(":")[0]
    value = rng.choice([lines[place].partition(":")[2], " 7", " null", " {}", " word"])
    again = [lines[place], f"{key}:{value}"]
    lines[place : place + 1] = again if rng.random() < 0.5 else again[::-1]
    return mutation(work, "\n".join(lines), f"{again}", Expected.REFUSED, key.strip())


def restyled(rng: Random, work: Path) -> Mutation:
    """The same in another style: JSON, flow, anchors, merges, other order, comments, line ends."""
    config = base()
    style = rng.choice(
        ["json", "flow", "anchors", "merge", "order", "comments", "line ends", "quotes", "start", "spaces"]
    )
    text = text_of(config)
    if style == "json":
        text = json.dumps(config, indent=rng.choice([None, 2]))
    elif style == "flow":
        text = yaml.safe_dump(config, default_flow_style=True, width=10**6)
    elif style == "anchors":
        shared = copy.deepcopy(config["model"]["init_args"]["gaussian"])
        config["model"]["init_args"]["gaussian"] = config["guide"]["init_args"]["gaussian"] = shared
        text = text_of(config)
    elif style == "merge":
        text = text.replace("objective:\n", "objective:\n  <<: {between: 9, within: 9}\n")
    elif style == "order":
        items = [*config.items()]
        rng.shuffle(items)
        text = text_of(dict(items))
    elif style == "comments":
        text = "".join(f"{line}  # é {rng.random()}\n" for line in text.splitlines())
    elif style == "line ends":
        text = text.replace("\n", rng.choice(["\r\n", "\n\n", "\r"]))
    elif style == "quotes":
        text = yaml.safe_dump(config, default_style=None).replace("cpu", rng.choice(["'cpu'", '"cpu"', "!!str cpu"]))
    elif style == "start":
        text = f"%YAML 1.1\n---\n{text}...\n"
    else:
        text = text.replace(": ", ":   ").replace("\n", "   \n")
    return mutation(work, text.encode(), style, Expected.EQUAL)


def anchors(rng: Random, work: Path) -> Mutation:
    """An anchor holds itself, is not there, or multiplies."""
    text, key = text_of(base()), rng.choice(["objective", "batches", "model", "extra"])
    lines = {
        "itself": f"{key}: &a\n  {key}: *a\n",
        "in a list": f"{key}: &a [1, *a]\n",
        "nowhere": f"{key}: *nowhere\n",
        "multiplied": "".join(
            f"x{n}: &x{n} [{', '.join([f'*x{n - 1}' if n else 'lol'] * 9)}]\n" for n in range(rng.randrange(7, 12))
        ),
        "merged": f"{key}: &a\n  <<: *a\n",
    }
    kind = rng.choice([*lines])
    return mutation(work, f"{text}\n{lines[kind]}".encode(), kind, Expected.REFUSED, "config.yaml")


def encoded(rng: Random, work: Path) -> Mutation:
    """The text has another encoding."""
    name = rng.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1", "cp037", "utf-7"])
    content = (text_of(base()) + "# é ü ß\n").encode(name)
    return mutation(work, content, name, Expected.FAITHFUL, "config.yaml", recorded=base())


def rubbish(rng: Random, work: Path) -> Mutation:
    """The file is empty, a list, a word, several documents, random bytes, or another kind of file."""
    text = text_of(base())
    contents: dict[str, bytes] = {
        "empty": b"",
        "comment": b"# nothing\n",
        "list": b"- model\n- guide\n",
        "word": b"hello\n",
        "number": b"7\n",
        "null": b"null\n",
        "documents": f"{text}---\n{text}".encode(),
        "bytes": rng.randbytes(rng.randrange(1, 3000)),
        "zeros": bytes(rng.randrange(1, 3000)),
        "npz": (work / "data.npz").read_bytes(),
        "tabs": text.replace("  ", "\t").encode(),
        "deep": b"model: " + b"[" * 10 ** rng.randrange(2, 6),
        "deep mapping": b"model: " + b"{a: " * 10 ** rng.randrange(2, 5),
        "indents": "\n".join(" " * depth + "a:" for depth in range(10 ** rng.randrange(2, 4))).encode(),
    }
    kind = rng.choice([*contents])
    return mutation(work, contents[kind], kind, Expected.REFUSED)


def tagged(rng: Random, work: Path) -> Mutation:
    """A value has a tag of YAML that would call something."""
    calls = ["python/object/apply:os.mkdir [../sentinel]", "python/name:stranger.Model", "python/module:stranger"]
    call = rng.choice([*calls, "python/object/new:stranger.Model {}", "include /etc/passwd", "python/tuple [1, 8, 8]"])
    lines = text_of(base()).splitlines()
    place = rng.choice([number for number, line in enumerate(lines) if ": " in line])
    lines[place] = f"{lines[place].partition(':')[0]}: !!{call}"
    return mutation(work, "\n".join(lines), lines[place], Expected.REFUSED, "config.yaml")


def _judged_by_yaml(work: Path, text: str, what: str) -> Mutation:
    """What the changed text asks for, as PyYAML reads it; none if it cannot."""
    try:
        given = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        given = None
    right = isinstance(given, dict)
    made = mutation(work, text, what, Expected.FAITHFUL if right else Expected.REFUSED)
    return Mutation(what, made.command, made.expected, (), given if right else None)


def letter(rng: Random, work: Path) -> Mutation:
    """One letter of the text is another one, missing or added."""
    text = text_of(base())
    place, new = rng.randrange(len(text)), chr(rng.choice([*range(32, 127), 9, 10, 0xE9, 0x2028]))
    while text[: place + 1].endswith(
        ("max_steps: 3", "max_steps:")
    ):  # a training of 300 steps is right, and takes long
        place = rng.randrange(len(text))
    kept = rng.choice([0, 1])
    changed = text[:place] + rng.choice(["", new, new]) + text[place + kept :]
    return _judged_by_yaml(work, changed, f"{text[place - 20 : place + 9]!r} -> {changed[place - 20 : place + 9]!r}")


def cut(rng: Random, work: Path) -> Mutation:
    """The text ends early."""
    text = text_of(base())
    place = rng.randrange(len(text))
    return _judged_by_yaml(work, text[:place], f"first {place} letters")


def no_file(rng: Random, work: Path) -> Mutation:
    """The configuration is a folder, missing, or a link to itself or to nothing."""
    file = work / "config.yaml"
    file.unlink()
    kind = rng.choice(["folder", "missing", "loop", "nowhere"])
    if kind == "folder":
        file.mkdir()
    elif kind != "missing":
        file.symlink_to("config.yaml" if kind == "loop" else "nowhere")
    return Mutation(kind, COMMANDS["fit"], Expected.REFUSED, ("config.yaml",))


RULES: dict[Rule, int] = {
    twice: 25,
    restyled: 30,
    anchors: 20,
    encoded: 10,
    rubbish: 30,
    tagged: 20,
    letter: 50,
    cut: 30,
    no_file: 10,
}
