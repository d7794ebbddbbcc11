# SPDX-License-Identifier: Apache-2.0
"""Facts of the interfaces that a balancer attaches to, and what keeps it from doing so."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from galelb.bpf.attach import XdpState, query_xdp
from galelb.datapath.claims import is_claimed
from galelb.doctor.findings import Finding, fail, ok, warn
from galelb.errors import EnvironmentProblem, GaleError, NetlinkError
from galelb.model import Interface, XdpMode
from galelb.netlink import Netlink
from galelb.netlink.xdp_features import XdpFeature, xdp_features
from galelb.suggest import nearest

__all__ = ["LinkFacts", "check_links", "expected_mode", "gather_links", "xdp_on"]

_SIOCGIFFLAGS, _SIOCETHTOOL, _ETHTOOL_GLINK = 0x8913, 0x8946, 0xA
_UP, _RUNNING = 1, 0x40
_FORMS: Mapping[XdpMode | None, str] = {XdpMode.NATIVE: "xdpdrv", XdpMode.GENERIC: "xdpgeneric"}


@attrs.frozen(kw_only=True)
class LinkFacts:
    """One interface that the configuration names."""

    name: str
    role: str
    """public, private, both or extra."""
    interface: Interface | None = None
    """None when there is none of this name."""
    up: bool = True
    carrier: bool = True
    xdp: XdpState | None = None
    tc: bool = False
    """Whether a classifier of ours is on its ingress."""
    claimed: bool = False
    """Whether a running balancer has it."""
    features: XdpFeature | None = None
    """None where the kernel does not tell."""
    offloads: Mapping[str, bool] = attrs.Factory(dict)
    ipv6_off: bool = False
    rp_filter: int = 0
    """In force: the larger one of its own and of "all"."""

    @property
    def mode(self) -> XdpMode | None:
        """How programs of ours are attached now."""
        if self.xdp is not None and self.xdp.ours:
            return self.xdp.mode
        return XdpMode.TC if self.tc else None


async def gather_links(netlink: Netlink, wanted: Mapping[str, str]) -> tuple[LinkFacts, ...]:
    """Look at the interfaces with these names, which map to roles. Raises GaleError."""
    present = await netlink.interfaces()
    return tuple([await _gather(netlink, n, role, present.get(n)) for n, role in wanted.items()])


async def _gather(netlink: Netlink, name: str, role: str, interface: Interface | None) -> LinkFacts:
    if interface is None:
        return LinkFacts(name=name, role=role)
    try:
        offloads = await netlink.offloads(name)
    except NetlinkError:
        offloads = {}  # not every driver tells
    tc = await netlink.has_tc(interface.ifindex, "ingress")

    def look() -> LinkFacts:
        flags = _flags(name)
        return LinkFacts(
            name=name,
            role=role,
            interface=interface,
            up=bool(flags & _UP),
            carrier=_has_carrier(name, flags),
            xdp=xdp_on(interface.ifindex),
            tc=tc,
            claimed=is_claimed(name),
            features=xdp_features(interface.ifindex),
            offloads=offloads,
            ipv6_off=_sysctl(f"ipv6/conf/{name}/disable_ipv6") == 1,
            rp_filter=max(_sysctl(f"ipv4/conf/{scope}/rp_filter") for scope in (name, "all")),
        )

    return await netlink.call(look)


def xdp_on(ifindex: int) -> XdpState | None:
    """Return what is attached to an interface; nothing of ours is where libbpf is missing."""
    try:
        return query_xdp(ifindex)
    except EnvironmentProblem:
        return None


def _flags(name: str) -> int:
    request = struct.pack("16sH14x", name.encode(), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, request)
        except OSError as error:
            raise GaleError(f"interface {name}: {error.strerror}") from None
    flags: int = struct.unpack_from("H", answer, 16)[0]
    return flags


def _has_carrier(name: str, flags: int) -> bool:
    """Ask the driver: IFF_RUNNING follows up to a second later (net/core/link_watch.c)."""
    value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_GLINK, 0), 8)
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        try:
            fcntl.ioctl(asking, _SIOCETHTOOL, request)
        except OSError:  # a driver that does not tell
            return bool(flags & _RUNNING)
    return bool(struct.unpack_from("I", value, 4)[0])


def _sysctl(name: str) -> int:
    try:
        return int((Path("/proc/sys/net") / name).read_text())
    except (OSError, ValueError):
        return 0


def expected_mode(
    links: Sequence[LinkFacts], xdp_mode: str, tc_possible: bool
) -> tuple[XdpMode, str]:
    """Return how a balancer would attach, and why not natively, as galelb.datapath.attacher does.

    All interfaces get one mode; what is attached already is kept.
    """
    if xdp_mode != "auto":
        return XdpMode(xdp_mode), f"xdp_mode is {xdp_mode}"
    slower = XdpMode.TC if tc_possible else XdpMode.GENERIC
    if any(link.role == "extra" for link in links):
        return slower, "extra_interfaces are in use"
    attached = next((link.mode for link in links if link.mode is not None), None)
    if attached is not None:
        return attached, "" if attached is XdpMode.NATIVE else "it is attached so already"
    without = [link.name for link in links if not _may_be_native(link)]
    if without:
        return slower, f"the driver of {', '.join(without)} has no native XDP"
    return XdpMode.NATIVE, ""


def _may_be_native(link: LinkFacts) -> bool:
    return link.features is None or XdpFeature.BASIC in link.features


def check_links(
    links: Sequence[LinkFacts],
    *,
    xdp_mode: str,
    tc_possible: bool,
    ours: Collection[str],
    present: Sequence[str],
    ipv6: bool,
    vlan: bool,
) -> Iterator[Finding]:
    """Judge the interfaces.

    `ours`: those that this very instance, which runs, has. `present`: the names that there are.
    `ipv6`, `vlan`: whether a service needs that.
    """
    mode, why = expected_mode(links, xdp_mode, tc_possible)
    for link in links:
        yield _state(link, present)
        if link.interface is None:
            continue
        yield from _occupied(link, ours)
        yield _mode(link, mode, why)
        yield from _offloads(link, mode, vlan=vlan)
        if link.ipv6_off and ipv6:
            command = f"sysctl -w net/ipv6/conf/{link.name}/disable_ipv6=0"
            yield fail(f"ipv6 {link.name}", "IPv6 is off, and a service is IPv6", command)


def _state(link: LinkFacts, present: Sequence[str]) -> Finding:
    name = f"interface {link.name}"
    if link.interface is None:
        found = ", ".join(sorted(present))
        text = f"there is none of this name{nearest(link.name, present)}; there are: {found}"
        return fail(name, text)
    if not link.up:
        return fail(name, f"the {link.role} interface is down", f"ip link set {link.name} up")
    if not link.carrier:
        return fail(name, f"the {link.role} interface has no carrier: look at cable and peer")
    addresses = ", ".join(map(str, link.interface.addresses)) or "no address"
    return ok(name, f"{link.role}, up, mtu {link.interface.mtu}, {addresses}")


def _occupied(link: LinkFacts, ours: Collection[str]) -> Iterator[Finding]:
    if link.claimed and link.name not in ours:
        text = (
            "another balancer or a node's agent has it, as `ss -xlp | grep galelb/interface/"
            f"{link.name}` tells: stop that, or use another interface"
        )
        yield fail(f"owner {link.name}", text)
    if link.xdp is not None and not link.xdp.ours:
        form = _FORMS.get(link.xdp.mode, "xdp")
        text = (
            f"XDP program {link.xdp.name or '(no name)'} (id {link.xdp.program_id}) of somebody"
            " else is attached, and only one can be"
        )
        yield fail(f"owner {link.name}", text, f"ip link set dev {link.name} {form} off")


def _mode(link: LinkFacts, mode: XdpMode, why: str) -> Finding:
    name = f"xdp {link.name}"
    now = "attached" if link.mode is mode else "will be attached"
    if mode is XdpMode.NATIVE and not _may_be_native(link):
        return fail(name, "xdp_mode is native, but its driver has no native XDP: use auto")
    if mode is not XdpMode.NATIVE:
        text = f"{now} as {mode.value}, which is slower than native XDP: {why}"
        return ok(name, text) if why.startswith("xdp_mode") else warn(name, text)
    if _drops_what_is_sent(link):
        text = (
            "its other end has GRO off, so this veth drops what XDP sends through it; hosts behind"
            " it must compute checksums, too (run there, for the device at the other end)"
        )
        return warn(name, text, "ethtool -K DEVICE gro on tx off")
    return ok(name, f"{now} natively")


def _drops_what_is_sent(link: LinkFacts) -> bool:
    veth = link.interface is not None and link.interface.kind == "veth"
    return veth and link.features is not None and XdpFeature.NDO_XMIT not in link.features


def _offloads(link: LinkFacts, mode: XdpMode, *, vlan: bool) -> Iterator[Finding]:
    if vlan and mode is not XdpMode.TC and link.offloads.get("rxvlan"):
        text = "its driver takes VLAN tags off before XDP sees them, and a service has a tag"
        yield fail(f"vlan {link.name}", text, f"ethtool -K {link.name} rxvlan off")
    if mode is XdpMode.NATIVE and link.offloads.get("lro"):
        text = "LRO glues packets together, and most drivers refuse native XDP with it"
        yield warn(f"offloads {link.name}", text, f"ethtool -K {link.name} lro off")
    gluing = [key for key in ("gro", "lro") if link.offloads.get(key)]
    if mode is XdpMode.GENERIC and gluing:
        text = f"{' and '.join(gluing)} will be switched off while generic XDP is attached"
        yield ok(f"offloads {link.name}", text)
