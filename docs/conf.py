"""Sphinx builds these pages and the API reference: `make docs`."""

import os
from importlib.metadata import version as version_of

project = "sana_wm_gym"
author = "The sana_wm_gym developers"
version = release = version_of("sana_wm_gym")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
if os.environ.get("SPHINX_ONLINE") == "1":
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "gymnasium": ("https://gymnasium.farama.org", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "python": ("https://docs.python.org/3", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
}
exclude_patterns = ["_build", "data"]
html_theme = "furo"
html_title = "sana_wm_gym"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
