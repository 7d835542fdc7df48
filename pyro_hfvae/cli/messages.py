"""Errors in one line each; those of jsonargparse without its account of the types that it tried."""

import re

from jsonargparse import ArgumentError

__all__ = ["one_line"]

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
    (r"(?<= )(evaluate|traverse|report)\.run", "RUN"),
    (r"((?:unrecognized|not accept).*)", r"\1; the options are listed by --help"),
    (r"^(model|guide|data): ([\w.]+): (Option .*)--help", r"\1: \2: \3fit --\1.help \2"),
)


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    lines = [line.strip() for line in str(error).splitlines()]
    if not isinstance(error, ArgumentError):
        return re.sub(r"^\[Errno \d+\] ", "", " ".join(line for line in lines if line))
    text = " ".join(line.removeprefix("- ") for line in lines if line and not _NOISE.fullmatch(line))
    for pattern, replacement in _WORDING:
        text = re.sub(pattern, replacement, text)
    return text
