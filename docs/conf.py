# SPDX-License-Identifier: Apache-2.0
"""How Sphinx makes the site. Build it with `./dev docs`.

The source folder is the repository's root, so that a page links to a plugin's README or to a
source file by the same relative path as on the disk.
"""

from importlib.metadata import version as version_of

project = "galelb"
author = "the galelb authors"
copyright = "the galelb authors. Apache-2.0"  # noqa: A001 (Sphinx wants this name)
release = version_of("galelb")

extensions = ["myst_parser"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
include_patterns = ["*.md", "docs/**", "plugins/*/README.md", "examples/*/README.md"]
exclude_patterns = [".*", "build", "dist", "bench", "bpf", "e2e", "galelb", "grafana", "tests"]

# Anchors as GitHub makes them, down to the deepest heading that a page links to.
myst_heading_anchors = 4
myst_enable_extensions = ["fieldlist"]
# Blocks without a language are output or commands to read: colours would only guess.
highlight_language = "text"

html_theme = "furo"
html_title = f"galelb {release}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
