# SPDX-License-Identifier: Apache-2.0
"""`galelb group-key`: makes the file with a group's keys, and changes keys without an outage."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from galelb.group.key_file import Key

__all__ = ["group_key_group"]

_RELOAD = "the same file to every balancer, then `systemctl reload galelb` on each"
_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group("group-key")
def group_key_group() -> None:
    """Make and change the keys that the balancers of a group share.

    \b
    A new group:       galelb group-key new FILE
    Changing the key:  galelb group-key add FILE       all learn the next key
                       galelb group-key promote FILE   all use it
                       galelb group-key drop FILE      all forget the old one
    After each step copy FILE to every balancer and reload it, before the next step.
    """


@group_key_group.command("new")
@_FILE
def new_command(file: Path) -> None:
    """Make FILE with a random key, readable by its owner alone."""
    from galelb.group.key_file import create_keys, write_keys

    keys = create_keys()
    write_keys(file, keys, new=True)
    _say(keys, f"copy {_RELOAD.partition(',')[0]}; name it in key_file of lb.toml")


@group_key_group.command("add")
@_FILE
def add_command(file: Path) -> None:
    """Step 1: add the next key; balancers that know it can be told to use it."""
    from galelb.group.key_file import add_key

    _change(file, add_key, f"copy {_RELOAD}; when all have done so: galelb group-key promote")


@group_key_group.command("promote")
@_FILE
def promote_command(file: Path) -> None:
    """Step 2: use the other key; all must know it already. Done again, it is undone."""
    from galelb.group.key_file import promote_key

    _change(file, promote_key, f"copy {_RELOAD}; when all have done so: galelb group-key drop")


@group_key_group.command("drop")
@_FILE
def drop_command(file: Path) -> None:
    """Step 3: forget the key that is not used; none may use it any more."""
    from galelb.group.key_file import drop_key

    _change(file, drop_key, f"copy {_RELOAD}")


@group_key_group.command("show")
@_FILE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_command(file: Path, as_json: bool) -> None:
    """Show the keys of FILE by number and fingerprint, to compare balancers."""
    from galelb.group.key_file import read_keys

    keys = read_keys(file)
    if as_json:
        click.echo(json.dumps({"keys": [_row(keys, key) for key in keys]}, indent=2))
    else:
        click.echo("\n".join(_lines(keys)))


def _change(file: Path, step: Callable[[Sequence[Key]], tuple[Key, ...]], then: str) -> None:
    from galelb.group.key_file import read_keys, write_keys

    keys = step(read_keys(file))
    write_keys(file, keys, new=False)
    _say(keys, then)


def _say(keys: Sequence[Key], then: str) -> None:
    click.echo("\n".join([*_lines(keys), f"Next: {then}."]))


def _lines(keys: Sequence[Key]) -> list[str]:
    rows = [_row(keys, key) for key in keys]
    return [f"key {row['number']}  {row['fingerprint']}  {row['use']}" for row in rows]


def _row(keys: Sequence[Key], key: Key) -> dict[str, str | int]:
    use = "encrypts" if key == keys[0] else "decrypts"
    return {"number": key.number, "fingerprint": key.fingerprint, "use": use}
