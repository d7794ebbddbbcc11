# SPDX-License-Identifier: Apache-2.0
"""Builds the site into build/docs; a warning, such as a link that leads nowhere, is an error."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.cmd.build import build_main

ROOT = Path(__file__).parent.parent
FORWARD = """<!doctype html>
<meta charset="utf-8">
<title>galelb</title>
<meta http-equiv="refresh" content="0; url=docs/index.html">
<a href="docs/index.html">galelb</a>
"""


def build(output: Path) -> int:
    """Write the site into a folder and return 0, or what Sphinx returned."""
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--builder", "html"]
    folders = ["-c", str(ROOT / "docs"), "-d", str(output / ".doctrees"), str(ROOT), str(output)]
    code = build_main([*options, *folders])
    (output / "index.html").write_text(FORWARD)
    if not code:
        sys.stdout.write(f"the site: {output / 'index.html'}\n")
    return code


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"))
