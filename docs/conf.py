"""Sphinx configuration: `python -m sphinx -W --keep-going -b html docs build/docs`."""

import pyro_hfvae

project = "pyro-hfvae"
author = "pyro-hfvae developers"
project_copyright = "pyro-hfvae developers"
version = release = pyro_hfvae.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = [
    "campaign_table.md",
    "checks_table.md",
    "examples",
    "estimators_table.md",
    "mnist_estimators.md",
    "mnist_information.md",
    "staleness_table.md",
    "tables_table.md",
    "topics_table.md",
]
default_role = "literal"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"pyro-hfvae {release}"
html_copy_source = False
html_show_sphinx = False
