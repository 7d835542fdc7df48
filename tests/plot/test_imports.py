"""Figures are made of arrays: no module of plot runs a program."""

import ast
from pathlib import Path

import pytest

from pyro_hfvae import plot

MODULES = sorted(Path(plot.__file__).parent.glob("*.py"))
BELOW = ("pyro_hfvae.files", "pyro_hfvae.metrics", "pyro_hfvae.plot", "pyro_hfvae.run_outputs")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_module_imports_programs(module):
    nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
    imported = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not {name.partition(".")[0] for name in imported} & {"pyro", "torch", "pytorch_lightning"}
    assert all(name.startswith(BELOW) for name in imported if name.startswith("pyro_hfvae"))
