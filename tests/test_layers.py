"""Only sites know distributions: everything else asks a site."""

import ast
from pathlib import Path

import pyro_hfvae

GENERAL = {"Distribution", "Transform", "biject_to", "constraints", "identity_transform", "kl_divergence"}
"""What names no family."""

ROOT = Path(pyro_hfvae.__file__).parent
KNOWING = {"sites", "distributions", "models", "guides", "experiments"}


def families(path):
    """The names of distribution classes that a module imports, and the modules of distributions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("torch.dist", "pyro.dist")):
            if node.module != "pyro.distributions.util":
                yield from (alias.name for alias in node.names if alias.name not in GENERAL)
        elif isinstance(node, ast.ImportFrom) and node.module in ("torch", "pyro"):
            yield from (alias.name for alias in node.names if alias.name == "distributions")
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if "distributions" in alias.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith(
            ("torch.distributions.", "pyro.distributions.")
        ):
            yield ast.unparse(node)


def test_no_module_but_the_sites_knows_a_distribution():
    paths = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in KNOWING]
    assert len(paths) > 100
    found = {str(path.relative_to(ROOT)): names for path in paths if (names := list(families(path)))}
    assert found == {}


def test_the_search_finds_a_class(tmp_path):
    lines = ["from torch.distributions import Normal", "import pyro.distributions as dist", "import torch"]
    lines += ["from pyro import distributions", "x = torch.distributions.Beta"]
    (tmp_path / "module.py").write_text("\n".join(lines))
    assert list(families(tmp_path / "module.py")) == [
        "Normal", "pyro.distributions", "distributions", "torch.distributions.Beta",
    ]  # fmt: skip
