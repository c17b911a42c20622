"""How Sphinx builds these pages. They are Markdown; convscope is not imported, so building them needs no torch."""

import re
from pathlib import Path

_source = (Path(__file__).parent.parent / "src" / "convscope" / "version.py").read_text(encoding="utf-8")

project = "convscope"
version = release = re.findall(r'__version__ = "(.+)"', _source)[0]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "logs"]  # logs are linked to as files
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {version}"
html_show_copyright = False
html_show_sphinx = False
