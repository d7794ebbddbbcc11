# SPDX-License-Identifier: Apache-2.0
"""`python -m galelb` is the `galelb` command."""

from __future__ import annotations

from galelb.cli import main

if __name__ == "__main__":
    main()
