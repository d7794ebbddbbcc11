# SPDX-License-Identifier: Apache-2.0
"""Tiers: what needs root is skipped without it, and in CI nothing may be skipped."""

import datetime as dt
import ipaddress
import logging
import os
from collections.abc import Iterator

import pytest
import structlog

TIERS = ("bpf", "netns", "e2e")


class Authority:
    """Signs certificates; all files are PEM and lie in `folder`."""

    def __init__(self, folder, name="ca"):
        self._folder, self._name = folder, name
        self._key, self._cert = self._make(f"authority {name}", (), 1, None)
        self.ca = self._write(f"{name}.pem", self._pem(self._cert))

    def issue(self, name, *hosts, days=1, mode=0o600):
        """Return paths of a new certificate and its key; negative `days` = expired."""
        key, cert = self._make(name, hosts, days, self)
        from cryptography.hazmat.primitives import serialization as ser

        secret = key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
        cert_path = self._write(f"{self._name}-{name}.crt", self._pem(cert))
        return cert_path, self._write(f"{self._name}-{name}.key", secret, mode)

    @staticmethod
    def _make(name, hosts, days, signer):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        def named(text):
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        end = now + dt.timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(name) if signer is None else signer._cert.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=10))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), True)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(x509, host) for host in hosts]), False
            )
        return key, builder.sign(key if signer is None else signer._key, hashes.SHA256())

    @staticmethod
    def _pem(cert):
        from cryptography.hazmat.primitives import serialization as ser

        return cert.public_bytes(ser.Encoding.PEM)

    def _write(self, name, data, mode=0o644):
        path = self._folder / name
        path.write_bytes(data)
        path.chmod(mode)
        return path


def _alternative(x509, host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@pytest.fixture
def make_authority(tmp_path):
    """Authority(name) in a folder of the test's own."""
    return lambda name="ca": Authority(tmp_path, name)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands set up logging to a stream that pytest closes after the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    before = structlog.get_config() if structlog.is_configured() else None
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    if before is None:
        structlog.reset_defaults()
    else:
        structlog.configure(**before)


def _tier(item: pytest.Item) -> str:
    return next((tier for tier in TIERS if item.get_closest_marker(tier)), "fast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root")
    for item in items:
        if _tier(item) != "fast":
            item.add_marker(skip)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failed run: a tier that did not run proves nothing."""
    if os.environ.get("CI") != "true":
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran = {"fast": 0} | dict.fromkeys(TIERS, 0)
    for report in terminalreporter.stats.get("passed", []):
        tier = next((tier for tier in TIERS if tier in report.keywords), "fast")
        ran[tier] += 1
    terminalreporter.write_line(
        "tiers passed: " + ", ".join(f"{name} {count}" for name, count in ran.items())
    )
    if os.environ.get("CI") == "true" and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("CI: no test may be skipped", red=True)
