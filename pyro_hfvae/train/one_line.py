"""Errors in one line, those of jsonargparse without the list of every type that it tried.

jsonargparse (4.53) gives no structure beside its text, which nests by indentation. What is matched of it, and no more:

- ``Parser key "K":`` and ``Problem with given class_path 'C':`` say where the lines below them belong;
- ``Expected a path but ...`` comes before the real reason;
- ``Does not validate against any of the Union subtypes`` has a line ``Subtypes: [...]``, one reason for each of the
  types below ``Errors:``, and ``Given value: V``.
"""

import re
from typing import NamedTuple

from jsonargparse import ArgumentError

__all__ = ["one_line"]

_KEY, _CLASS, _PATH = 'Parser key "', "Problem with given class_path '", "Expected a path but "
_UNION = "Does not validate against any of the Union subtypes"
_NONE = "<class 'NoneType'>"
_OF_THE_PARSER = ("Expected ", "Subclasses are disabled for ", "Not a valid subclass of ", "Import path ")
"""How reasons of jsonargparse's own begin; others are what a constructor raised."""


def one_line(error: Exception) -> str:
    """The message of an error, without line breaks."""
    if isinstance(error, ArgumentError):
        return _reason(_lines(str(error)))
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'"
    return " ".join(line.strip() for line in _lines(str(error)))


class _Union(NamedTuple):
    types: str
    reasons: list[list[str]]  # the lines of each
    value: str


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _text(line: str) -> str:
    return line.strip().removeprefix("- ")


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _reason(lines: list[str]) -> str:
    """The option that is wrong, by its dotted name, the class that it is an argument of, and why."""
    keys: list[str] = []
    owner = ""
    while True:
        first = _text(lines[0])
        if first.startswith(_PATH):
            lines = lines[1:]
        elif first.startswith(_KEY):
            key, _, rest = first.removeprefix(_KEY).partition('":')
            keys, owner, lines = [*keys, key], "", _lines(rest) + lines[1:]
        elif first.startswith(_CLASS):
            owner, lines = first.removeprefix(_CLASS).removesuffix("':"), lines[1:]
        elif first.startswith(_UNION):
            lines = _chosen(_read_union(lines))
        else:
            break
    name, leaf = ".".join(keys), _leaf(" ".join(_text(line) for line in lines))
    if leaf.endswith(" is not accepted") and owner:
        leaf += f"; the options are listed by fit --{name}.help {owner}"
    elif leaf.startswith("unrecognized arguments: ") or " does not accept option " in leaf:
        leaf += "; the options are listed by --help"
    return ": ".join(part for part in (name, owner, leaf) if part)


def _leaf(text: str) -> str:
    """A reason in fewer words, with types by their short names."""
    required = "the following arguments are required: "
    if text.startswith(required):  # by subcommand: fit.run is --run, evaluate.run the argument RUN
        names = [name.partition(".") for name in text.removeprefix(required).split(", ")]
        options = [f"--{key}" if of == "fit" else "RUN" if key in ("run", "runs") else of for of, _, key in names]
        return required + ", ".join(options)
    for kind in ("Type ", "Not of type "):  # the name of the type adds nothing to the reason behind it
        if text.startswith(kind):
            text = text.partition(": ")[2]
    text = re.sub(r"Expected an? <class '(?:\w+\.)*(\w+)'>", r"expected \1", text)
    return text.replace(". Got value: ", ", got ").replace(' in "<unicode string>",', " at")


def _read_union(lines: list[str]) -> _Union:
    start = next(place for place, line in enumerate(lines) if line.strip() == "Errors:")
    depth, of_reasons = _depth(lines[start]), _depth(lines[start + 1])  # one less than usual where the value is empty
    end = next(
        place
        for place, line in enumerate(lines)
        if line.startswith(" " * depth + "Given value type: ") and place > start
    )
    reasons: list[list[str]] = []
    for line in lines[start + 1 : end]:
        if _depth(line) == of_reasons and line.strip().startswith("- "):
            reasons.append([])
        reasons[-1].append(line)
    types = lines[start - 1].strip().removeprefix("Subtypes: [").removesuffix("]").removesuffix(f", {_NONE}")
    value = lines[end + 1].strip().removeprefix("Given value: ")
    reasons = [reason for reason in reasons if _text(reason[0]) != f"Expected a {_NONE}"]
    return _Union(re.sub(r"<class '|'>|(?:\b[a-z_]+\.)+(?=\w)", "", types), reasons, value)


def _chosen(union: _Union) -> list[str]:
    """The lines of the reason why the type does not fit that was meant; all types where it cannot be known."""
    reasons = union.reasons
    if len(reasons) > 1:
        classes = [reason for reason in reasons if _text(reason[0]).startswith(_CLASS)]
        named = [reason for reason in classes if _text(reason[0]).split("'")[1] in union.value]
        # A mapping is tried as the arguments of a class too, which it need not be.
        arguments = [reason for reason in classes if not reason[-1].endswith(" is not accepted")]
        unions = [reason for reason in reasons if _text(reason[0]).startswith(_UNION)]
        constructors = [
            reason
            for reason in reasons
            if not _text(reason[0]).startswith((*_OF_THE_PARSER, _CLASS, _UNION))
            and "__init__() got an unexpected keyword argument" not in reason[0]
        ]
        reasons = [*constructors, *named, *arguments, *unions, [f"expected {union.types}, got {union.value}"]]
    first = _text(reasons[0][0])
    as_parsed = union.value.startswith(("Namespace(", "NestedArg("))  # not as the user wrote it
    if first.startswith(_OF_THE_PARSER) and union.value not in first and not as_parsed:
        return [f"{first}. Got value: {union.value}"]
    return reasons[0]
