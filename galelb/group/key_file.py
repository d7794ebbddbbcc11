# SPDX-License-Identifier: Apache-2.0
"""The file with the group's keys, and the three steps by which one key replaces another.

A line is a key's number and its 32 bytes in hex. The first line encrypts, all lines decrypt; there
are at most two. Whoever can read the file can join the group, so errors hold nothing of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from galelb.errors import GaleError

if TYPE_CHECKING:
    from galelb.group.keys import KeyRing

__all__ = [
    "Key",
    "KeyFileError",
    "add_key",
    "create_keys",
    "drop_key",
    "load_ring",
    "parse_keys",
    "promote_key",
    "read_keys",
    "write_keys",
]

_KEY_BYTES = 32
_MOST_KEYS = 2
_NUMBERS = 256
_LARGEST_FILE = 4096
_HEADER = """\
# Keys of a group of galelb balancers, the same file on each: NUMBER HEX
# The first key encrypts, all decrypt. To change keys: galelb group-key --help
"""


class KeyFileError(GaleError):
    """A key file cannot be used; the message names it and holds nothing of what is in it."""

    exit_code = 2


@attrs.frozen
class Key:
    """One shared key."""

    number: int
    secret: bytes = attrs.field(repr=False)

    @property
    def fingerprint(self) -> str:
        """What tells keys apart and may be shown: 16 hex digits of a hash of the key."""
        return hashlib.sha256(b"galelb key" + self.secret).hexdigest()[:16]


def load_ring(path: Path) -> KeyRing:
    """Return the keys in a file, ready for use. Blocks on the disk. Raises KeyFileError."""
    from galelb.group.keys import KeyRing  # only groups need cryptography

    keys = read_keys(path)
    return KeyRing({key.number: key.secret for key in keys}, keys[0].number)


def read_keys(path: Path) -> tuple[Key, ...]:
    """Return the keys in a file, the one that encrypts first. Blocks on the disk.

    Raises:
        KeyFileError: it cannot be read, everybody can read it, or it is no key file.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LARGEST_FILE + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        hint = "; `galelb group-key new` makes one" if isinstance(error, FileNotFoundError) else ""
        text = f"{path}: cannot be read: {error.strerror or error}{hint}"
        raise KeyFileError(text) from error
    if not stat.S_ISREG(mode):
        raise KeyFileError(f"{path}: is no regular file")
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise KeyFileError(f"{path}: everybody can read or change this secret: chmod o= {path}")
    if len(data) > _LARGEST_FILE:
        raise KeyFileError(f"{path}: is larger than {_LARGEST_FILE} bytes")
    return parse_keys(data, str(path))


def parse_keys(data: bytes, where: str) -> tuple[Key, ...]:
    """Return the keys in a file's content; `where` is what errors call it. Raises KeyFileError."""
    keys: list[Key] = []
    for number, line in enumerate(data.splitlines(), 1):
        text = line.decode("ascii", "replace").strip()
        if text and not text.startswith("#"):
            keys.append(_parse(text, f"{where}:{number}"))
    if not 1 <= len(keys) <= _MOST_KEYS:
        raise KeyFileError(f"{where}: needs one or two keys, has {len(keys)}")
    if len({key.number for key in keys}) < len(keys):
        raise KeyFileError(f"{where}: both keys have the number {keys[0].number}")
    return tuple(keys)


def create_keys() -> tuple[Key, ...]:
    """Return the one key of a new group."""
    return (_new_key(1),)


def add_key(keys: Sequence[Key]) -> tuple[Key, ...]:
    """First step of a change: all balancers learn the new key. Raises KeyFileError."""
    if len(keys) >= _MOST_KEYS:
        raise KeyFileError("there are two keys already: promote the new one, then drop the old one")
    return (*keys, _new_key((keys[0].number + 1) % _NUMBERS))


def promote_key(keys: Sequence[Key]) -> tuple[Key, ...]:
    """Second step: all use the new key. Raises KeyFileError. Done again, it is undone."""
    if len(keys) < _MOST_KEYS:
        raise KeyFileError("there is one key only: add the next one first")
    return keys[1], keys[0]


def drop_key(keys: Sequence[Key]) -> tuple[Key, ...]:
    """Last step: the key that does not encrypt is forgotten. Raises KeyFileError."""
    if len(keys) < _MOST_KEYS:
        raise KeyFileError("there is one key only: nothing to drop")
    return (keys[0],)


def write_keys(path: Path, keys: Sequence[Key], *, new: bool) -> None:
    """Write a key file in one step: readers see the old one or the new one.

    A new file can be read by its owner alone; an old one keeps owner and mode. Blocks on the disk.

    Raises:
        KeyFileError: it cannot be written, or with `new`: it is there already.
    """
    try:
        _write(path, "".join(f"{key.number} {key.secret.hex()}\n" for key in keys), new=new)
    except FileExistsError as error:
        raise KeyFileError(f"{path}: is there already") from error
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written: {error.strerror or error}") from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe, too, so that it can be refused."""
    return os.open(path, flags | os.O_NONBLOCK)


def _write(path: Path, lines: str, *, new: bool) -> None:
    target = path if new else path.resolve()
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - an open descriptor
            file.write(_HEADER + lines)
            if not new:
                before = target.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            file.flush()
            os.fsync(descriptor)
        if new:
            target.hardlink_to(temporary)  # unlike a rename, it replaces nothing
        else:
            temporary.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _parse(line: str, where: str) -> Key:
    parts = line.split()
    if len(parts) != 2:
        raise KeyFileError(f"{where}: must be a number, a space and {2 * _KEY_BYTES} hex digits")
    number, digits = parts
    if not number.isdecimal() or len(number) > 3 or int(number) >= _NUMBERS:
        raise KeyFileError(f"{where}: the number must be from 0 to {_NUMBERS - 1}")
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        raise KeyFileError(f"{where}: the key must be {2 * _KEY_BYTES} hex digits") from None
    if len(secret) != _KEY_BYTES:
        wanted = f"the key must be {2 * _KEY_BYTES} hex digits"
        raise KeyFileError(f"{where}: {wanted}, has {len(digits)}")
    return Key(int(number), secret)


def _new_key(number: int) -> Key:
    return Key(number, secrets.token_bytes(_KEY_BYTES))
