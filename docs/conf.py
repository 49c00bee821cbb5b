"""The documentation as a site: `make docs` builds it into site/ without a network, and a warning is an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_site"))

project = "a3m"
author = "The a3m developers"
copyright = "The a3m developers. Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "mathml", "generated", "docstrings"]
# What pages link to is no page. Sphinx keeps the name search.html for itself: searching.md shows search.md.
exclude_patterns = ["_site", "cluster", "examples", "search.md"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
math_number_all = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_inherit_docstrings = False  # of torch, whose own docstrings are markup
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"
highlight_language = "none"  # commands
smartquotes = False  # a setting may be ""
default_role = "code"  # docstrings are prose with `names` in single backticks

html_theme = "furo"
html_title = "a3m"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
pygments_style = "friendly"
