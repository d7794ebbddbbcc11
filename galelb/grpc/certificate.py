# SPDX-License-Identifier: Apache-2.0
"""Reads when a certificate ends, which the standard library tells only of other people's."""

from __future__ import annotations

import datetime as dt
import re
import ssl

__all__ = ["NotACertificateError", "expires_at"]

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _TIME = 0xA0, 0x17, 0x18


class NotACertificateError(Exception):
    """The text holds no certificate that can be read."""


def expires_at(text: str) -> dt.datetime:
    """Return when the first certificate of a PEM text ends.

    Raises:
        NotACertificateError: there is none.
    """
    match = _PEM.search(text)
    if match is None:
        raise NotACertificateError
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(match[0]))
    except (ValueError, IndexError) as error:
        raise NotACertificateError from error


def _not_after(der: bytes) -> dt.datetime:
    """Walk to Certificate.tbsCertificate.validity.notAfter (RFC 5280, section 4.1)."""
    _, certificate, _ = _element(der)
    _, body, _ = _element(certificate)
    tag, _, rest = _element(body)
    if tag == _VERSION:  # optional, then the serial number follows
        _, _, rest = _element(rest)
    _, _, rest = _element(rest)  # signature
    _, _, rest = _element(rest)  # issuer
    _, validity, _ = _element(rest)
    _, _, rest = _element(validity)  # notBefore
    tag, text, _ = _element(rest)
    if tag not in (_UTC_TIME, _TIME):
        raise ValueError("no time")
    written = text.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 50 to 99 are 1950 to 1999
        written = ("19" if written[:2] >= "50" else "20") + written
    return dt.datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Split off one DER element: (tag, content, what follows)."""
    tag, length, at = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, at = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if at + length > len(data):
        raise ValueError("cut off")
    return tag, data[at : at + length], data[at + length :]
