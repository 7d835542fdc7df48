"""Errors in one line each; those of jsonargparse without its account of the types that it tried."""

import re

from jsonargparse import ArgumentError

__all__ = ["constructors_reason", "one_line"]

_NOISE = re.compile(
    r"(- )?(Expected a path but .* either not accessible or invalid"
    r"|Does not validate against any of the Union subtypes|Subtypes: .*|Errors:|Expected a <class 'NoneType'>"
    r"|Given value type: .*|Given value: (NestedArg\(|Namespace\(|\{'class_path').*)"
)

# What jsonargparse says, and what to say instead.
_WORDING = (
    (r"Parser key \"([\w.]+)\":", r"\1:"),
    (r"<class '(?:\w+\.)*(\w+)'>", r"\1"),
    (r"Type \S*Callable\[.*?\] expects a function or a callable class: ", ""),
    (r"\. Got value: (NestedArg|Namespace)\(.*", ""),
    (r"\.? (Got|Given) value: ", ", got "),
    (r"Not of type \w+: ", ""),
    (r"Expected a dot import path string: [^,]*", "expected an import path, package.module.Class"),
    (r"Expected a (typing\.Literal)?", lambda match: "expected one of " if match[1] else "expected "),
    (r"(?<=\]) expected one of", " or one of"),
    (r"Problem with given class_path '(.*?)': ", r"\1: "),
    (r"(\w+(?:\.\w+)+)(.*), got \1$", r"\1\2"),
    (r"Unexpected config: ", "expected options and their values, got "),
    (r" in \"<unicode string>\",", " at"),
    (r"(?<=[ ,])fit\.(?=\w)", "--"),
    (r"(?<= )(evaluate|traverse|report|check)\.runs?", "RUN"),
    (r"((?:unrecognized|not accept).*)", r"\1; the options are listed by --help"),
    (r"^(model|guide|data|objective): ([\w.]+): (Option .*)--help", r"\1: \2: \3fit --\1.help \2"),
    (r"^objective: [\w.]+: (\w+): ", r"objective.\1: "),
)


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    lines = [line.strip() for line in str(error).splitlines()]
    if not isinstance(error, ArgumentError):
        return re.sub(r"^\[Errno \d+\] ", "", " ".join(line for line in lines if line))
    lines = [line.strip() for line in _told_of_weights(str(error).splitlines())]
    text = " ".join(line.removeprefix("- ") for line in lines if line and not _NOISE.fullmatch(line))
    for pattern, replacement in _WORDING:
        text = re.sub(pattern, replacement, text)
    return text


_OWN = re.compile(
    r"Expected an? |Subclasses are disabled |Does not validate |Not a valid |Import path "
    r"|\w+\.__init__\(\) got an unexpected"
)
"""What jsonargparse says itself of the kinds of a value that do not fit."""


def constructors_reason(account: str) -> str | None:
    """What the constructor of a class said, out of jsonargparse's account of the kinds that it tried; or None."""
    said = [line.strip().removeprefix("- ") for line in account.splitlines() if line.strip().startswith("- ")]
    return next((reason for reason in said if not _OWN.match(reason)), None)


_KINDS = {"float": "a number", "Schedule": "a schedule (class_path)", "Capacity": "a capacity", "dict": "these by name"}


def _told_of_weights(lines: list[str]) -> list[str]:
    """The account of why a value is no weight, in one line: jsonargparse tells it for each kind of weight.

    What is wrong with the schedule or the capacity that was meant stands; else the kinds are named.
    """
    for place, line in enumerate(lines):
        if not re.match(r"\s*Subtypes: .*schedules\.Schedule", line):
            continue
        depth = _depth(line)
        end = next((n for n, after in enumerate(lines[place:], place) if after.strip() and _depth(after) < depth), None)
        account, rest = lines[place + 1 : end], lines[end:] if end is not None else []
        value = next(
            (part.partition("Given value: ")[2] for part in account if f"{' ' * depth}Given value: " in part), ""
        )
        values = " ".join(part for part in account if re.search("(Given|Got) value: ", part))
        for number, part in enumerate(account):
            problem = re.search(r"Problem with given class_path '(.*)':", part)
            if problem is None:
                continue
            inner = [part]
            for after in account[number + 1 :]:
                if after.strip() and _depth(after) <= _depth(part):
                    break
                inner.append(after)
            # A mapping is tried as the arguments of a capacity, which it need not be.
            meant = problem[1] in values or not re.search("Option '.*' is not accepted", "".join(inner))
            if meant:
                return [*lines[:place], *_told_of_weights(inner), *rest]
        kinds = [said for kind, said in _KINDS.items() if re.search(rf"\b{kind}\b", line)]
        expected = f"expected {', '.join(kinds[:-1])} or {kinds[-1]}, got {value}"
        return [*lines[:place], expected, *rest]
    return lines


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
