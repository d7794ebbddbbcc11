# SPDX-License-Identifier: Apache-2.0
"""An authority and one certificate of it for ::1 and 127.0.0.1, for servers and clients."""

import subprocess
from pathlib import Path
from typing import NamedTuple

EXTENSIONS = """subjectAltName=IP:127.0.0.1,IP:::1
extendedKeyUsage=serverAuth,clientAuth
"""


class Certificates(NamedTuple):
    ca: Path
    cert: Path
    key: Path


def make_certificates(directory):
    directory.mkdir()
    (directory / "extensions").write_text(EXTENSIONS)
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for command in (
        f"req -x509 {new_key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2",
        f"req {new_key} -keyout key.pem -out request -subj /CN=root",
        "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
        " -extfile extensions -out cert.pem",
    ):
        subprocess.run(
            ["openssl", *command.split()], cwd=directory, check=True, capture_output=True
        )
    return Certificates(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
