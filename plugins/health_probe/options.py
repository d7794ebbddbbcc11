# SPDX-License-Identifier: Apache-2.0
"""The settings of health_probe: the section `[plugins.health_probe]` and its probes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from galelb.config.problems import KeyProblemError
from galelb.config.types import Label, Port, at_least, matches
from galelb.durations import Duration
from galelb.forwarder import Options

__all__ = ["HealthProbeOptions", "Probe"]

_HTTP_ONLY = ("path", "host", "expect")

Path = Annotated[str, matches(r"/[\x21-\x7e]{0,1023}", 'must begin with "/" and hold no spaces')]
Host = Annotated[str, matches(r"[\x21-\x7e]{0,255}", "must be a host name, with a port if need be")]
Statuses = Annotated[
    tuple[Annotated[int, Field(ge=100, le=599)], ...], Field(min_length=1, max_length=50)
]


def _not_too_long(services: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(services)) != len(services):
        raise ValueError("names a service twice")
    return services


class Probe(Options):
    """One element of `probes`: how to check nodes, and for which services."""

    type: Literal["tcp", "http", "grpc"] = "tcp"
    """tcp: the node accepts a connection; http: it answers a GET; grpc: it is SERVING by
    grpc.health.v1."""
    services: Annotated[tuple[Label, ...], AfterValidator(_not_too_long)] = ()
    """Services whose nodes are checked; empty = all of TCP, and with `port` those of UDP too."""
    port: Port | None = None
    """Port to check; the service's target_port when left out."""
    interval: Annotated[Duration, at_least("100ms")] = 1.0
    """From one check of a node to the next."""
    timeout: Annotated[Duration, at_least("10ms")] | None = None
    """For the whole check; as long as `interval` when left out, and never longer."""
    rise: Annotated[int, Field(ge=1, le=100)] = 2
    """Good checks in a row before the node counts as healthy."""
    fall: Annotated[int, Field(ge=1, le=100)] = 3
    """Bad checks in a row before it does not any more."""
    path: Path = "/"
    """http: what to ask for."""
    host: Host = ""
    """http: the Host header; the address that is checked when left out."""
    expect: Statuses = (200, 204)
    """http: statuses that are good."""
    grpc_service: str = Field(default="", max_length=255)
    """grpc: the service to ask about; empty = the server as a whole."""

    @property
    def patience(self) -> float:
        """Seconds after which a check has failed."""
        return self.interval if self.timeout is None else self.timeout

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.timeout is not None and self.timeout > self.interval:
            raise KeyProblemError("must not be longer than interval", "timeout")
        for key in _HTTP_ONLY:
            if self.type != "http" and key in self.model_fields_set:
                raise KeyProblemError('only for type = "http"', key)
        if self.type != "grpc" and self.grpc_service:
            raise KeyProblemError('only for type = "grpc"', "grpc_service")
        return self


class HealthProbeOptions(Options):
    """`[plugins.health_probe]`."""

    probes: Annotated[tuple[Probe, ...], Field(max_length=100)] = ()
    """How to check nodes; without any, by tcp with the defaults of a probe."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 256
    """Checks at a time; more have to wait. Raising it takes a restart."""
    max_checks: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Different checks (of a node, by a probe, at a port or VIP); what is beyond is left
    unchecked, and the log says so."""

    @property
    def in_use(self) -> tuple[Probe, ...]:
        """The probes, or the one that stands for none."""
        return self.probes or (Probe(),)
