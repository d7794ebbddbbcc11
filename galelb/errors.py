# SPDX-License-Identifier: Apache-2.0
"""The error tree: every failure a user can cause or meet is a GaleError with a plain message."""

from __future__ import annotations

__all__ = [
    "ApiError",
    "AttachError",
    "BpfError",
    "CompileError",
    "ConfigError",
    "EnvironmentProblem",
    "GaleError",
    "LabError",
    "LocalProtocolError",
    "MapError",
    "NetlinkError",
    "PcapError",
    "PluginError",
    "ProtocolError",
    "RemoteProtocolError",
    "VerifierError",
]


class GaleError(Exception):
    """Base of all errors of galelb; `str(error)` says what, where and what to do next.

    `exit_code` is what the command line exits with (design: 1 run time, 2 usage or
    configuration, 3 the environment cannot).
    """

    exit_code = 1


class ConfigError(GaleError):
    """A configuration is not usable; holds every problem found, one line each."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PluginError(GaleError):
    """A plugin cannot be used; the message names the plugin and its package."""

    exit_code = 2

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(f"plugin {plugin}: {message}")
        self.plugin = plugin


class EnvironmentProblem(GaleError):  # noqa: N818 - "EnvironmentError" is taken by Python
    """The machine cannot do what is asked: no root, no BPF, a missing package or mount."""

    exit_code = 3


class BpfError(GaleError):
    """Something on the kernel side failed."""


class CompileError(BpfError):
    """Clang refused the C; the message holds its diagnostics with file and line."""


class VerifierError(BpfError):
    """The kernel's verifier refused a program; `log` is the end of its log."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class AttachError(BpfError):
    """A program could not be attached to an interface; `code` is the kernel's errno or 0."""

    def __init__(self, interface: str, mode: str, message: str, *, code: int = 0) -> None:
        super().__init__(f"interface {interface} ({mode}): {message}")
        self.interface = interface
        self.mode = mode
        self.code = code


class MapError(BpfError):
    """An operation on a BPF map failed."""

    def __init__(self, name: str, operation: str, message: str) -> None:
        super().__init__(f"map {name}: {operation}: {message}")
        self.name = name
        self.operation = operation


class NetlinkError(GaleError):
    """The kernel refused a netlink request."""


class PcapError(GaleError):
    """A capture file cannot be read or written."""

    exit_code = 2


class ApiError(GaleError):
    """The API of a balancer cannot be reached or refused the request."""


class LabError(GaleError):
    """The lab could not do what was asked."""


class ProtocolError(GaleError):
    """A protocol of ours was broken."""


class LocalProtocolError(ProtocolError):
    """Our own code used a protocol wrongly."""


class RemoteProtocolError(ProtocolError):
    """The other side broke a protocol."""
