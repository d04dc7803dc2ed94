"""The site, made by Sphinx: ``sphinx-build -W -b html docs OUT``.

Pages are plain Markdown that GitHub shows as well. What GitHub has no words for is added here: the
tree of pages (`site/sections.py`), the outputs of notebooks (`site/notebooks.py`), pages of the
files that are linked to (`site/sources.py`), links in docstrings (`site/docstrings.py`), and a look
at what leaves the site (`site/offline.py`).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))

from trikernel import __version__

project = "trikernel"
author = "the trikernel contributors"
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "docstrings",
    "notebooks",
    "offline",
    "sections",
    "sources",
]
exclude_patterns = ["site", "examples/*/**"]
suppress_warnings = ["config.cache"]

myst_heading_anchors = 4  # the names that GitHub gives to headings
nb_execution_mode = "off"  # `site/notebooks.py` does it, with this kernel
nb_merge_streams = True

default_role = "py:obj"  # in docstrings: a link where there is one, else code
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"trikernel {release}"
html_static_path = ["site/style.css"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {"color-brand-primary": "#0b6e75", "color-brand-content": "#0b6e75"},
    "dark_css_variables": {"color-brand-primary": "#5cc8d0", "color-brand-content": "#5cc8d0"},
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
