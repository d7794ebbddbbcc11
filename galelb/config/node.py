# SPDX-License-Identifier: Apache-2.0
"""node.toml as a validated, frozen value: the balancers of a node and its own checks."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from galelb.config.models import Section
from galelb.config.problems import KeyProblemError, describe_errors, raise_problems
from galelb.config.toml_file import read_toml
from galelb.config.toml_json import parse_section, plain
from galelb.config.types import Address, Folder, InterfaceName, Label, OptionalLabel, Port, at_least
from galelb.durations import Duration

__all__ = [
    "ApiSection",
    "BalancerAddress",
    "CheckSection",
    "LoadBalancerSection",
    "NodeConfig",
    "NodeSettings",
    "load_node_config",
    "split_target",
]

_MAX_BALANCERS = 64
_MAX_CHECKS = 64
_HOST = re.compile(r"(?=.{1,253}\.?$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?")


def _hostname(name: str) -> str:
    if _HOST.fullmatch(name) is None:
        raise ValueError('must be a host name, such as "lb-0.local"')
    return name


class BalancerAddress(Section):
    """Where a balancer listens: an address or a host name, which is looked up again and again."""

    ip: Address | None = None
    """Its address on the private network."""
    hostname: Annotated[str, AfterValidator(_hostname)] | None = None
    """Its host name; mDNS names such as lb-0.local are fine."""
    port: Port = 7070
    """Its node_port."""

    @field_validator("ip", "hostname", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        # Files of the original galeLB give both, one of them empty.
        return None if value == "" else value

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.ip is None) == (self.hostname is None):
            raise ValueError("needs either ip or hostname, not both")
        return self

    @property
    def host(self) -> str:
        """The address or host name as text."""
        return str(self.ip) if self.ip is not None else str(self.hostname)

    @property
    def name(self) -> str:
        """The balancer in logs: host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class LoadBalancerSection(Section):
    """The balancers that the node reports to."""

    addresses: Annotated[
        tuple[BalancerAddress, ...], Field(min_length=1, max_length=_MAX_BALANCERS)
    ]
    """Every balancer of the group, by ip or hostname."""
    tls_ca: Folder | None = None
    """PEM file: the authorities that sign certificates of balancers; turns TLS on."""
    tls_cert: Folder | None = None
    """PEM file: this node's certificate; the chain may follow it."""
    tls_key: Folder | None = None
    """PEM file: the key of `tls_cert`, without a password."""
    tls_server_name: Annotated[str, AfterValidator(_hostname)] | None = None
    """The name in the balancers' certificates, if that is not their ip or hostname above."""
    token_file: Folder | None = None
    """File with the balancers' token, when they want one and no TLS."""

    @model_validator(mode="after")
    def _usable_files(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_cert"
            raise KeyProblemError("tls_cert and tls_key go together", missing)
        if self.tls_ca is None and (self.tls_cert or self.tls_server_name):
            raise KeyProblemError("needed for TLS: who signs the balancers' certificates", "tls_ca")
        if self.tls_ca is not None or self.token_file is not None:
            _check_files(self)
        return self


def _check_files(section: LoadBalancerSection) -> None:
    from galelb.grpc.tls import FileProblemError
    from galelb.node.identity import check_files

    try:
        check_files(section)
    except FileProblemError as error:
        raise KeyProblemError(str(error), error.key) from None


class NodeSettings(Section):
    """What the node says of itself."""

    name: OptionalLabel = ""
    """Name in logs and commands; the host's name when empty."""
    weight: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Share of new flows compared with the other nodes, 0 = none; when not set, what the
    balancers' `[[nodes]]` say, else 1."""
    services: Annotated[tuple[Label, ...], Field(max_length=4096)] = ()
    """Names of the services it serves; all of its family when empty."""
    drain_timeout: Duration = 10.0
    """How long to wait at shutdown until the balancers send no new flows."""
    configure_host: bool = True
    """Set this machine up as the balancers' forwarders need it (VIPs on lo, packets taken out of
    tunnels), and undo it when leaving; false: only say what is missing, with the command that
    mends it."""
    interfaces: Annotated[tuple[InterfaceName, ...], Field(max_length=64)] = ()
    """Where tunnels from balancers come in; those by which the balancers are reached when empty."""
    state_file: Annotated[str, Field(min_length=1, max_length=4096)] = "/run/galelb/node.json"
    """What was changed on this machine, so that a later run undoes it after a crash."""
    stop_file: Annotated[str, Field(min_length=1, max_length=4096)] = "/var/lib/galelb/node.stopped"
    """Is there while an operator has stopped the node (`galelb node stop`), which so outlives
    restarts."""


class ApiSection(Section):
    """Where the agent is asked and steered: a unix socket, and TCP if a port is set."""

    socket: Annotated[str, Field(max_length=107)] = ""
    """Path of the unix socket; beside `state_file` when empty (/run/galelb/node.sock)."""
    socket_group: Annotated[str, Field(max_length=32)] = ""
    """Group whose members may use the socket, too; only the agent's user (root) when empty."""
    address: Address = ip_address("127.0.0.1")
    """Where to listen with TCP; on other than loopback addresses reading needs the token, too."""
    port: Port | None = None
    """TCP port; none when not set."""
    token_file: Annotated[str, Field(max_length=4096)] = ""
    """File with the token that changes over TCP need; beside the socket (node.token) when empty.
    Made at the first start."""


class CheckSection(Section):
    """One check that has to pass before the node says that it serves."""

    name: Label
    """Name in logs and in the node's reports."""
    type: Literal["tcp", "http", "exec"]
    """tcp: connect to `target`; http: GET `url` and get 200 to 399; exec: `command` exits 0."""
    target: str | None = None
    """For tcp: "host:port", IPv6 addresses in brackets."""
    url: str | None = None
    """For http: an http:// or https:// URL."""
    command: Annotated[tuple[str, ...], Field(max_length=256)] = ()
    """For exec: program and arguments; no shell."""
    interval: Annotated[Duration, at_least("100ms")] = 1.0
    """Time between two runs."""
    timeout: Annotated[Duration, at_least("10ms")] = 1.0
    """A run that takes longer has failed."""
    rise: Annotated[int, Field(ge=1, le=1000)] = 1
    """Successes in a row before the check passes."""
    fall: Annotated[int, Field(ge=1, le=1000)] = 2
    """Failures in a row before the check fails."""

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        given = {"target": self.target, "url": self.url, "command": self.command or None}
        wanted = {"tcp": "target", "http": "url", "exec": "command"}[self.type]
        if not given[wanted]:
            raise KeyProblemError(f"required for a check of type {self.type}", wanted)
        for key in given:
            if key != wanted and given[key] is not None:
                raise KeyProblemError(
                    f"not for a check of type {self.type}: it takes {wanted}", key
                )
        if self.target is not None:
            split_target(self.target)
        if self.url is not None:
            _check_url(self.url)
        if self.command and not self.command[0]:
            raise KeyProblemError("must begin with the name of a program", "command")
        return self


def split_target(target: str) -> tuple[str, int]:
    """Return host and port of a "host:port". Raises ValueError."""
    host, colon, port = target.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bracketed else host
    if not (colon and _good_host(name, bracketed) and _good_port(port)):
        raise KeyProblemError(f'must be "host:port", got {target[:80]!r}', "target")
    return name, int(port)


def _good_host(name: str, bracketed: bool) -> bool:
    try:
        return (ip_address(name).version == 6) is bracketed
    except ValueError:
        return not bracketed and _HOST.fullmatch(name) is not None


def _good_port(text: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", text) is not None and 1 <= int(text) <= 65535


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s\x00-\x1f]", url):
        raise KeyProblemError(f'must be like "http://127.0.0.1:8080/", got {url[:80]!r}', "url")


class NodeConfig(Section):
    """A whole node.toml."""

    load_balancer: LoadBalancerSection
    """The balancers that the node reports to."""
    node: NodeSettings = NodeSettings()
    """What the node says of itself."""
    checks: Annotated[tuple[CheckSection, ...], Field(max_length=_MAX_CHECKS)] = ()
    """What has to work before the node says that it serves; none = it always does."""
    api: ApiSection = ApiSection()
    """Where the agent is asked and steered."""

    @property
    def api_socket(self) -> Path:
        """The agent's unix socket."""
        return Path(self.api.socket or Path(self.node.state_file).with_suffix(".sock"))

    @property
    def api_token_file(self) -> Path:
        """What holds the token for TCP."""
        return Path(self.api.token_file or self.api_socket.with_suffix(".token"))

    @model_validator(mode="after")
    def _no_duplicates(self) -> Self:
        seen: set[str] = set()
        for index, check in enumerate(self.checks):
            if check.name in seen:
                text = f'another check has the name "{check.name}" already'
                raise KeyProblemError(text, "checks", index, "name")
            seen.add(check.name)
        return self


def load_node_config(path: Path) -> NodeConfig:
    """Return the validated node.toml. Blocks on the disk. Raises ConfigError with all problems."""
    file = read_toml(path)
    data, problems = plain(file.data)
    try:
        config = parse_section(NodeConfig, data)
    except ValidationError as error:
        raise_problems(file, [*problems, *describe_errors(error, NodeConfig)])
        raise
    raise_problems(file, problems)
    return config
