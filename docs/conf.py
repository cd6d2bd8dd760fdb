"""Sphinx settings."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "bnrnn"
release = importlib.metadata.version("bnrnn")
extensions = [
    "committed",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "bnrnn"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_theme_options = {"source_repository": "https://github.com/bnrnn/bnrnn/", "source_branch": "main"}
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# MathJax 3.2.2 from its npm package, so that equations are rendered without network.
mathjax_path = "mathjax/tex-svg.js"

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
# Code cells run at each build and an error in one ends it. pytest runs the examples with a prompt.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Shapes", "params_style"), ("Call", "notes"), ("Source", "notes"), ("Sources", "notes")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"

# torch's own inventory where it can be had; else a part of it, of the names that these pages use.
intersphinx_mapping = {"torch": ("https://docs.pytorch.org/docs/stable/", (None, "inventories/torch.inv"))}
intersphinx_timeout = 10
