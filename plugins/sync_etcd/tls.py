# SPDX-License-Identifier: Apache-2.0
"""What https endpoints are proved by, and this balancer to them."""

from __future__ import annotations

import ssl
from pathlib import Path

from galelb.config.problems import KeyProblemError

__all__ = ["tls_context"]


def tls_context(
    ca_file: Path | None, cert_file: Path | None, key_file: Path | None
) -> ssl.SSLContext:
    """Read certificates; blocks on the disk. Raises KeyProblemError, which names the option."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise KeyProblemError(
            f"{ca_file}: has no certificates that can be read", "ca_file"
        ) from None
    if cert_file is not None:
        try:
            # A password would be asked for on the terminal: none is better than waiting.
            context.load_cert_chain(cert_file, key_file, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            text = f"{cert_file} with the key {key_file} cannot be used: {reason}"
            raise KeyProblemError(text, "cert_file") from None
    return context
