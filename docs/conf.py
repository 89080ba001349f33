"""Configuration of the documentation site: `make docs` builds it, with every warning an error.

Nothing in the built pages comes from another host: furo brings its own style, and fonts are the reader's.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.command_reference import write_pages  # noqa: E402
from semcore import __version__  # noqa: E402

write_pages()

project = "SemCORE"
author = "the SemCORE contributors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3
smartquotes = False  # "--option" stays two dashes
highlight_language = "text"

default_role = "code"  # docstrings write code between single backquotes
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "SemCORE"
html_static_path = ["style"]
html_css_files = ["semcore.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
linkcheck_anchors = False
