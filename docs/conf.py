"""Sphinx settings."""

from __future__ import annotations

import importlib.metadata

project = "bnrnn"
release = importlib.metadata.version("bnrnn")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = "bnrnn"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Shapes", "params_style"), ("Call", "notes"), ("Source", "notes"), ("Sources", "notes")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
exclude_patterns = ["_build"]
