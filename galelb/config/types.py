# SPDX-License-Identifier: Apache-2.0
"""Types of single configuration values, each with a message that says what is allowed."""

from __future__ import annotations

import math
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, PlainValidator

from galelb.durations import parse_duration
from galelb.model import IPAddress

__all__ = [
    "Address",
    "Folder",
    "InterfaceName",
    "Label",
    "Mac",
    "OptionalLabel",
    "PluginName",
    "Port",
    "VipAddress",
    "at_least",
    "at_most",
    "blacklist_limit",
    "matches",
    "prime",
]

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_PLUGIN = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SMALLEST_TABLE = 101
_LARGEST_TABLE = 1_048_573


def _address(value: object) -> IPAddress:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        address = ip_address(value if isinstance(value, str) else "")
    except ValueError:
        text = "not an" if isinstance(value, str) else "must be text in quotes: an"
        raise ValueError(f"{text} IPv4 or IPv6 address") from None
    if getattr(address, "scope_id", None):
        raise ValueError("an address with a scope (%interface) cannot be used")
    return address


def _unicast(address: IPAddress) -> IPAddress:
    if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
        raise ValueError("must be the address of one host")
    return address


def _vip(address: IPAddress) -> IPAddress:
    if address.is_loopback:
        raise ValueError("a loopback address is not reachable by clients")
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f"write the IPv4 address itself: {address.ipv4_mapped}")
    return address


def _mac(text: str) -> str:
    mac = text.lower().replace("-", ":")
    if _MAC.fullmatch(mac) is None:
        raise ValueError('must be six hex bytes, such as "02:00:5e:10:00:01"')
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise ValueError("must be the address of one interface, not a group or all zeros")
    return mac


def _port(number: int) -> int:
    if not 1 <= number <= 65535:
        raise ValueError("must be from 1 to 65535")
    return number


def _folder(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("must be an absolute path")
    return path


def _interface(name: str) -> str:
    if _INTERFACE.fullmatch(name) is None or name in {".", ".."}:
        raise ValueError('must be the name of an interface, such as "eth0" (1 to 15 characters)')
    return name


def _plugin(name: str) -> str:
    if _PLUGIN.fullmatch(name) is None:
        raise ValueError("must be the name of a plugin: a-z, 0-9 and _, a letter first")
    return name


def matches(pattern: str, message: str) -> AfterValidator:
    """Return a validator of text that says `message` instead of showing a pattern."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise ValueError(message)
        return value

    return AfterValidator(check)


def at_least(text: str) -> AfterValidator:
    """Return a validator that refuses durations shorter than `text`."""
    seconds = parse_duration(text)

    def check(value: float) -> float:
        if value < seconds:
            raise ValueError(f"must be at least {text}")
        return value

    return AfterValidator(check)


def at_most(text: str) -> AfterValidator:
    """Return a validator that refuses durations longer than `text`."""
    seconds = parse_duration(text)

    def check(value: float) -> float:
        if value > seconds:
            raise ValueError(f"must be at most {text}")
        return value

    return AfterValidator(check)


def blacklist_limit(value: int) -> int:
    """Accept -1 (off) and every number from 1; raises ValueError."""
    if value != -1 and not 1 <= value <= 1_000_000:
        raise ValueError("must be -1 (off) or at least 1")
    return value


def prime(value: int) -> int:
    """Accept primes that make sense as a table size; raises ValueError naming the next one."""
    if not _SMALLEST_TABLE <= value <= _LARGEST_TABLE:
        raise ValueError(f"must be a prime from {_SMALLEST_TABLE} to {_LARGEST_TABLE}")
    if not _is_prime(value):
        above = next(n for n in range(value, _LARGEST_TABLE + 1) if _is_prime(n))
        raise ValueError(f"must be a prime; the next one is {above}")
    return value


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


Port = Annotated[int, AfterValidator(_port)]
Address = Annotated[
    IPAddress,
    PlainValidator(_address, json_schema_input_type=str),
    AfterValidator(_unicast),
    PlainSerializer(str, return_type=str, when_used="json"),
]
VipAddress = Annotated[Address, AfterValidator(_vip)]
_LABEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_LABEL_WORDS = "1 to 63 of letters, digits, dot, - and _, a letter or digit first"
Label = Annotated[str, matches(_LABEL, f"must be {_LABEL_WORDS}")]
OptionalLabel = Annotated[str, matches(f"({_LABEL})?", f"must be empty or {_LABEL_WORDS}")]
Mac = Annotated[str, AfterValidator(_mac)]
Folder = Annotated[Path, AfterValidator(_folder)]
InterfaceName = Annotated[str, AfterValidator(_interface)]
PluginName = Annotated[str, AfterValidator(_plugin)]
