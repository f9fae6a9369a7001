from __future__ import annotations

import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.application import Sphinx

project = "flowstore"
author = "the flowstore authors"
copyright = author
release = version = installed_version("flowstore")

sys.path.insert(0, str(Path(__file__).parent))

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "storage_tables"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"flowstore {release}"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# Celery's classes describe their options in a markup of their own.
autodoc_inherit_docstrings = False

# A reference to anything of flowstore's must lead somewhere; other projects' pages are not looked up while building.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!flowstore\b).*")]

_TITLED_FENCE = re.compile(r'^( *)(`{3,})([\w-]+) title="([^"]+)"$', re.MULTILINE)


def show_file_names(app: Sphinx, docname: str, source: list[str]) -> None:
    """Show the file name of a titled block above it; elsewhere on the web a title stays in the fence, unseen."""
    source[0] = _TITLED_FENCE.sub(r"\1\2{code-block} \3\n\1:caption: \4\n", source[0])


def setup(app: Sphinx) -> None:
    """Connect this file's handler; Sphinx calls it."""
    app.connect("source-read", show_file_names)
