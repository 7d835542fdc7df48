"""Configurations that YAML's readers take in silence, or never end with."""

import pytest
import yaml
from jsonargparse import ArgumentParser

from pyro_hfvae.train.strict_yaml import STRICT_YAML, load

LAUGHS = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else '1'] * 10)}]" for i in range(10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nrun: a\nseed: 2\n", "the key 'seed' is there twice, at line 1 and line 3"),
        ("model:\n  a: {z: 2, z: 3}\n", "the key 'z' is there twice, at line 2 and line 2"),
        ("- 1\n- {a: 1, 'a': 1}\n", "the key 'a' is there twice, at line 2 and line 2"),
        ("seed: 1\nmodel: &a {class_path: b, init_args: *a}\n", "the anchor at line 2 holds itself"),
        ("&a [*a]", "the anchor at line 1 holds itself"),
        ("&a [[{b: *a}]]", "the anchor at line 1 holds itself"),
        (LAUGHS, "what is at line 5 stands for more than 100,000 values"),
    ],
)
def test_refused(text, message):
    with pytest.raises(yaml.YAMLError, match=f"^{message}$"):
        load(text)


def test_too_deep():
    with pytest.raises(RecursionError):
        load("[" * 1000 + "]" * 1000)


def test_the_rest_is_read_as_ever():
    parser = ArgumentParser(parser_mode=STRICT_YAML, exit_on_error=False)
    parser.add_argument("--a", type=dict[str, float])
    parser.add_argument("--b", type=dict[str, float])
    read = parser.parse_string("a: &some {x: 1e-3, y: .inf}\nb: {<<: *some, x: 2}\n")
    assert read.a == {"x": 1e-3, "y": float("inf")}
    assert read.b == {"x": 2.0, "y": float("inf")}
    assert load("") is None
