# SPDX-License-Identifier: Apache-2.0
"""The group's shared keys, and the keys that are derived from them, one for each purpose."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from galelb.errors import LocalProtocolError

__all__ = ["KEY_BYTES", "KeyRing", "Nonces"]

KEY_BYTES = 32
_MOST_KEYS = 2


def _are_keys(_: object, __: object, keys: Mapping[int, bytes]) -> None:
    if not 1 <= len(keys) <= _MOST_KEYS or not all(0 <= number <= 255 for number in keys):
        raise LocalProtocolError("one or two keys are needed, with numbers from 0 to 255")
    if any(len(key) != KEY_BYTES for key in keys.values()):
        raise LocalProtocolError(f"keys must have {KEY_BYTES} bytes")


@attrs.frozen
class KeyRing:
    """Keys by number: `used` encrypts, all of them decrypt; two while keys are being changed.

    The keys must be random, not words. Raises LocalProtocolError for anything else.
    """

    keys: Mapping[int, bytes] = attrs.field(validator=_are_keys, repr=False)
    used: int = attrs.field()

    @used.validator
    def _is_there(self, _: object, used: int) -> None:
        if used not in self.keys:
            raise LocalProtocolError(f"key {used} is to be used, but is not there")

    def derive(self, number: int, purpose: bytes, *context: bytes) -> bytes:
        """Return a key for one purpose (HKDF-Expand, RFC 5869); another context, another key.

        Raises:
            KeyError: there is no key of that number.
        """
        # Each part with its length, so that no two contexts are the same bytes.
        parts = b"".join(len(part).to_bytes(2, "big") + part for part in (purpose, *context))
        info = b"galelb group 1" + parts
        return HKDFExpand(SHA256(), KEY_BYTES, info).derive(self.keys[number])

    def cipher(self, number: int, purpose: bytes, *context: bytes) -> ChaCha20Poly1305:
        """Return a cipher with a derived key; see `derive`."""
        return ChaCha20Poly1305(self.derive(number, purpose, *context))


class Nonces:
    """Counts from 1; each number once."""

    def __init__(self) -> None:
        self.last = 0
        """The number that was returned last; 0 before the first."""

    def next(self) -> int:
        """Return the next number; at a million a second, 8 bytes last for 580,000 years."""
        self.last += 1
        return self.last
