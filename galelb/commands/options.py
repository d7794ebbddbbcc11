# SPDX-License-Identifier: Apache-2.0
"""Options that say which balancer a command asks."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["FILE", "api_option", "config_option", "token_file_option"]

FILE = click.Path(dir_okay=False, path_type=Path)

api_option = click.option(
    "--api",
    metavar="URL",
    envvar="GALELB_API",
    help="The API of another balancer: http://HOST:PORT or unix:PATH.",
)
config_option = click.option("--config", type=FILE, help="The lb.toml that names the instance.")
token_file_option = click.option(
    "--token-file",
    type=FILE,
    envvar="GALELB_TOKEN_FILE",
    help="A copy of the balancer's api.token: over TCP, changes need it, and reading where it is so"
    " configured.",
)
