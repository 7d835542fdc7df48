"""YAML that means one thing: no key twice in a mapping, no anchor within itself, no aliases that multiply for ever."""

from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

__all__ = ["STRICT_YAML", "load"]

STRICT_YAML = "strict_yaml"
"""The mode of an ``ArgumentParser`` that reads configurations and options with :func:`load`."""

MOST_VALUES = 100_000


def load(text: str) -> Any:
    """What jsonargparse makes of the text, which is looked at first.

    PyYAML takes the last of two equal keys without a word, and jsonargparse copies what aliases stand for: an anchor
    that holds itself has no end, and ten anchors of ten aliases each are ten billion values.

    Raises:
        yaml.YAMLError: it is no YAML, or the text names a key twice, an anchor within itself or too many values.
        RecursionError: it is nested too deeply.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        _count(root, {})
    return get_loader("yaml")(text)


def _count(node: yaml.Node, counts: dict[yaml.Node, int | None]) -> int:
    """Values that a node stands for, its aliases' among them; None in ``counts`` marks a node that is being counted."""
    if node in counts:
        counted = counts[node]
        if counted is None:
            raise yaml.YAMLError(f"the anchor at {_place(node)} holds itself")
        return counted
    counts[node] = None
    total = 1
    if isinstance(node, yaml.MappingNode):
        _refuse_equal_keys(node)
        total += sum(_count(key, counts) + _count(value, counts) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count(value, counts) for value in node.value)
    if total > MOST_VALUES:
        raise yaml.YAMLError(f"what is at {_place(node)} stands for more than {MOST_VALUES:,} values")
    counts[node] = total
    return total


def _refuse_equal_keys(mapping: yaml.MappingNode) -> None:
    first: dict[str, yaml.Node] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in first:
            raise yaml.YAMLError(
                f"the key '{key.value}' is there twice, at {_place(first[key.value])} and {_place(key)}"
            )
        first[key.value] = key


def _place(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


set_loader(STRICT_YAML, load, (yaml.YAMLError,))
