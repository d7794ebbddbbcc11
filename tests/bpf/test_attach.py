# SPDX-License-Identifier: Apache-2.0
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from galelb.bpf import syscalls
from galelb.bpf.attach import attach_xdp, detach_xdp, program_id, query_xdp
from galelb.errors import AttachError
from galelb.model import XdpMode
from galelb.testing.kernel import Sandbox

pytestmark = pytest.mark.bpf

SOURCE = """
int gale_a(struct xdp_md *ctx) { return XDP_PASS; }
int gale_b(struct xdp_md *ctx) { return XDP_PASS; }
int other(struct xdp_md *ctx) { return XDP_PASS; }
"""


class Interface:
    """A veth end in a namespace, and three programs."""

    def __init__(self, sandbox: Sandbox, pins: dict[str, Path]) -> None:
        self.sandbox = sandbox
        self.pins = pins
        self.index, _ = sandbox.veth("gale0", "gale1")

    def attach(self, name: str, mode: XdpMode, replace_fd: int | None = None) -> None:
        self.sandbox.run(
            lambda: attach_xdp(self.index, "gale0", self.pins[name], mode, replace_fd=replace_fd)
        )

    def detach(self, only: set[int] | None = None) -> bool:
        return self.sandbox.run(lambda: detach_xdp(self.index, "gale0", only=only))

    @property
    def attached(self) -> tuple[str, XdpMode | None] | None:
        state = self.sandbox.run(query_xdp, self.index)
        return None if state is None else (state.name, state.mode)


@pytest.fixture(scope="module")
def pins(shared_sandbox: Sandbox) -> dict[str, Path]:
    compiled = shared_sandbox.compile(SOURCE, dict.fromkeys(("gale_a", "gale_b", "other"), "xdp"))
    return {name: program.pin for name, program in compiled.programs.items()}


@pytest.fixture
def interface(sandbox: Sandbox, pins: dict[str, Path]) -> Iterator[Interface]:
    return Interface(sandbox, pins)


@pytest.mark.parametrize("mode", [XdpMode.NATIVE, XdpMode.GENERIC])
def test_attached_replaced_and_detached_in_one_mode(interface: Interface, mode: XdpMode) -> None:
    seen = [interface.attached]
    interface.attach("gale_a", mode)
    seen.append(interface.attached)
    interface.attach("gale_b", mode)
    seen.append(interface.attached)
    gone = interface.detach(), interface.detach()
    seen.append(interface.attached)

    assert [None, ("gale_a", mode), ("gale_b", mode), None] == seen
    assert (True, False) == gone


def test_a_program_changes_its_mode(interface: Interface) -> None:
    interface.attach("gale_a", XdpMode.NATIVE)

    interface.attach("gale_a", XdpMode.GENERIC)

    assert ("gale_a", XdpMode.GENERIC) == interface.attached


def test_replacing_takes_the_expected_program_only(interface: Interface) -> None:
    interface.attach("gale_a", XdpMode.NATIVE)
    a, b = (syscalls.obj_get(interface.pins[name]) for name in ("gale_a", "gale_b"))
    try:
        with pytest.raises(AttachError, match="another program was attached meanwhile"):
            interface.attach("gale_b", XdpMode.NATIVE, replace_fd=b)
        kept = interface.attached
        interface.attach("gale_b", XdpMode.NATIVE, replace_fd=a)
    finally:
        os.close(a)
        os.close(b)

    assert ("gale_a", XdpMode.NATIVE) == kept
    assert ("gale_b", XdpMode.NATIVE) == interface.attached


@pytest.mark.parametrize(
    ("how", "mode"), [("xdpdrv", XdpMode.NATIVE), ("xdpgeneric", XdpMode.GENERIC)]
)
def test_a_foreign_program_is_never_touched(interface: Interface, how: str, mode: XdpMode) -> None:
    pin = str(interface.pins["other"])
    interface.sandbox.command("ip", "link", "set", "dev", "gale0", how, "pinned", pin)

    with pytest.raises(AttachError) as caught:
        interface.attach("gale_a", XdpMode.NATIVE)

    number = program_id(interface.pins["other"])
    expected = (
        f"interface gale0 (native): XDP program other (id {number}) of somebody else is attached;"
        f" to remove it: ip link set dev gale0 {how} off"
    )
    assert expected == str(caught.value)
    assert errno.EEXIST == caught.value.code
    assert not interface.detach()
    assert ("other", mode) == interface.attached


def test_detaching_can_be_narrowed_to_known_programs(interface: Interface) -> None:
    interface.attach("gale_a", XdpMode.NATIVE)

    other = interface.detach({program_id(interface.pins["gale_b"])})
    kept = interface.attached
    ours = interface.detach({program_id(interface.pins["gale_a"])})

    assert (False, ("gale_a", XdpMode.NATIVE), True) == (other, kept, ours)


def test_no_native_xdp_is_told_by_its_code(sandbox: Sandbox, pins: dict[str, Path]) -> None:
    with pytest.raises(AttachError, match="no native XDP: use generic mode") as caught:
        sandbox.run(lambda: attach_xdp(1, "lo", pins["gale_a"], XdpMode.NATIVE))

    assert errno.EOPNOTSUPP == caught.value.code


def test_an_mtu_that_is_too_large_is_explained_in_the_kernels_words(interface: Interface) -> None:
    for name in ("gale0", "gale1"):
        interface.sandbox.command("ip", "link", "set", "dev", name, "mtu", "9000")

    with pytest.raises(AttachError, match=r"MTU is too large.*ip link set dev gale0 mtu 1500"):
        interface.attach("gale_a", XdpMode.NATIVE)


def test_frags_programs_attach_at_mtu_9000(interface: Interface) -> None:
    source = "int gale_f(struct xdp_md *ctx) { return XDP_PASS; }"
    compiled = interface.sandbox.compile(source, {"gale_f": "xdp"}, frags=True)
    interface.pins |= {"gale_f": compiled.programs["gale_f"].pin}
    for name in ("gale0", "gale1"):
        interface.sandbox.command("ip", "link", "set", "dev", name, "mtu", "9000")

    interface.attach("gale_f", XdpMode.NATIVE)

    assert ("gale_f", XdpMode.NATIVE) == interface.attached


def test_an_interface_that_is_not_there_is_named(sandbox: Sandbox, pins: dict[str, Path]) -> None:
    with pytest.raises(AttachError, match=r"interface gone \(generic\): there is no such"):
        sandbox.run(lambda: attach_xdp(999, "gone", pins["gale_a"], XdpMode.GENERIC))


def test_a_pin_that_is_not_there_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(AttachError, match=r"interface lo \(generic\): .*no-such-pin"):
        sandbox.run(lambda: attach_xdp(1, "lo", sandbox.pins / "no-such-pin", XdpMode.GENERIC))


def test_the_kernel_counts_runs_and_time(sandbox: Sandbox, interface: Interface) -> None:
    from galelb.bpf.testrun import run_xdp

    fd = syscalls.obj_get(interface.pins["gale_a"])
    try:
        with syscalls.enable_stats():
            run_xdp(fd, bytes(64), repeat=100)
            info = syscalls.program_info(fd)
    finally:
        os.close(fd)

    assert info.run_count >= 100
    assert info.run_time_ns > 0
    assert ("gale_a", syscalls.PROG_TYPE_XDP) == (info.name, info.type)


@pytest.fixture
def few_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without CAP_SYS_ADMIN, which opening a program by its id takes."""

    def refused(number: int) -> Iterator[int]:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(syscalls, "program_by_id", refused)


@pytest.mark.usefixtures("few_rights")
def test_what_is_pinned_beside_is_replaced_and_detached_with_few_rights(
    interface: Interface,
) -> None:
    folder = interface.pins["gale_a"].parent
    seen = []
    for name in ("gale_a", "gale_b"):
        interface.attach(name, XdpMode.NATIVE)
        seen.append(interface.sandbox.run(lambda: query_xdp(interface.index, pins=folder).name))

    assert ["gale_a", "gale_b"] == seen
    assert interface.sandbox.run(lambda: detach_xdp(interface.index, "gale0", pins=folder))
    assert interface.attached is None


@pytest.mark.usefixtures("few_rights")
def test_what_is_pinned_elsewhere_stays_with_few_rights(
    interface: Interface, tmp_path: Path
) -> None:
    interface.attach("gale_a", XdpMode.NATIVE)

    assert not interface.sandbox.run(lambda: detach_xdp(interface.index, "gale0", pins=tmp_path))
    assert ("", XdpMode.NATIVE) == interface.attached
    # A program by its fd tells of no folder of pins.
    fd = syscalls.obj_get(interface.pins["gale_b"])
    at = interface.index, "gale0"
    try:
        with pytest.raises(AttachError, match="if galelb left it and its bpffs was unmounted"):
            interface.sandbox.run(lambda: attach_xdp(*at, fd, XdpMode.NATIVE))
    finally:
        os.close(fd)
