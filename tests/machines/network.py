# SPDX-License-Identifier: Apache-2.0
"""The wires between machines: a bridge in a namespace of its own, in which the test may sit too."""

import ipaddress
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs

__all__ = ["Network", "run"]

NETNS = Path("/run/netns")
_TEST_HOST = 254
_MOST_SECONDS = 60


def run(argv: Sequence[str], text: str | None = None) -> str:
    """Run a command on this machine; AssertionError quotes what it said when it fails."""
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, timeout=_MOST_SECONDS, check=False
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}"
    return done.stdout


@attrs.frozen
class Network:
    """One Ethernet: eth0 of all machines, or eth1."""

    namespace: str
    """Of the bridge; the test's own address lies here."""
    bridge: str
    device: str
    """What machines call their card of it."""
    v4: ipaddress.IPv4Network
    v6: ipaddress.IPv6Network

    def address(self, host: int) -> str:
        """Return the IPv4 address of the n-th machine."""
        return str(self.v4[host])

    def address6(self, host: int) -> str:
        """Return its IPv6 address."""
        return str(self.v6[host])

    @property
    def test_address(self) -> str:
        """Where the test itself is, for who talks from the bridge's namespace."""
        return self.address(_TEST_HOST)

    def inside(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` beside the machines, on their network."""
        return ["nsenter", f"--net={NETNS / self.namespace}", "--", *argv]

    def build(self) -> None:
        """Make the bridge; its namespace exists."""
        self._ip(
            f"link add {self.bridge} type bridge mcast_snooping 0",
            f"address add {self.address(_TEST_HOST)}/{self.v4.prefixlen} dev {self.bridge}",
            f"address add {self.address6(_TEST_HOST)}/{self.v6.prefixlen} dev {self.bridge} nodad",
            f"link set {self.bridge} up",
            "link set lo up",
        )
        self._offloads(self.namespace, self.bridge)

    def plug(self, namespace: str, port: str, host: int) -> None:
        """Give a machine's namespace its card with the addresses of the n-th machine."""
        peer = f"peer name {self.device} netns {namespace}"
        self._ip(f"link add {port} type veth {peer}", f"link set {port} master {self.bridge} up")
        commands = (
            "link set lo up",
            f"address add {self.address(host)}/{self.v4.prefixlen} dev {self.device}",
            f"address add {self.address6(host)}/{self.v6.prefixlen} dev {self.device} nodad",
            f"link set {self.device} up",
        )
        run(["ip", "-n", namespace, "-batch", "-"], "\n".join(commands) + "\n")
        self._offloads(namespace, self.device)
        self._offloads(self.namespace, port)

    def _ip(self, *commands: str) -> None:
        run(["ip", "-n", self.namespace, "-batch", "-"], "\n".join(commands) + "\n")

    @staticmethod
    def _offloads(namespace: str, device: str) -> None:
        # XDP sends through a veth only when the other end has GRO; it rewrites packets, so their
        # checksums may not be left to a network card that is none.
        enter = ["nsenter", f"--net={NETNS / namespace}", "--"]
        run([*enter, "ethtool", "-K", device, "tx", "off", "gro", "on"])
