# SPDX-License-Identifier: Apache-2.0
"""`machines`: as many as a test needs on one network, removed however the test ends."""

import contextlib
import ipaddress
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from tests.machines.machine import Machine, remove_cgroups
from tests.machines.network import Network, run
from tests.machines.root import PACKAGES, debian_root

__all__ = ["Machines", "machines"]

_FIRST_HOST = 11
_MOST_NETWORKS = 2


@attrs.frozen
class Machines(Mapping[str, Machine]):
    """The machines of a test by name, and what lies between them."""

    all: dict[str, Machine]
    networks: tuple[Network, ...]
    key: Path
    work: Path
    """A folder of this run, removed with it."""

    @property
    def network(self) -> Network:
        """The first network, on which everybody is."""
        return self.networks[0]

    def __getitem__(self, name: str) -> Machine:
        return self.all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)


@contextlib.contextmanager
def machines(
    names: Sequence[str],
    *,
    networks: int = 1,
    packages: Sequence[str] = PACKAGES,
    layers: Sequence[Path] = (),
    sysctls: Mapping[str, str] | None = None,
) -> Iterator[Machines]:
    """Run machines with these names (at most 11 characters) until the block ends.

    Each has a card eth0 on the first network, and eth1 on the second if `networks` is 2. They
    know each other by name, and nothing else: no way leads out. `layers` are folders that lie
    over the root; `sysctls` of net.* are set in each before it boots.
    """
    assert 1 <= networks <= _MOST_NETWORKS
    assert all(len(name) <= 11 for name in names), "veth names end at 15 characters"
    root = debian_root(tuple(packages))
    prefix = f"gm{secrets.token_hex(3)}"
    work = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        found = _describe(names, networks, prefix, work)
        stack.callback(_remove, found)
        for network in found.networks:
            run(["ip", "netns", "add", network.namespace])
            network.build()
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(found.key)])
        for machine in found.values():
            machine.start(root, layers, _hosts(found), sysctls or {})
        for machine in found.values():
            machine.wait()
        yield found


def _describe(names: Sequence[str], networks: int, prefix: str, work: Path) -> Machines:
    wires = tuple(
        Network(
            namespace=f"{prefix}-net{number}",
            bridge="br0",
            device=f"eth{number}",
            v4=ipaddress.IPv4Network(f"10.77.{number}.0/24"),
            v6=ipaddress.IPv6Network(f"fd77:{number}::/64"),
        )
        for number in range(networks)
    )
    key = work / "key"
    made = {
        name: Machine(
            name=name,
            namespace=f"{prefix}-{name}",
            networks=wires,
            number=_FIRST_HOST + index,
            key=key,
            work=work,
        )
        for index, name in enumerate(names)
    }
    return Machines(made, wires, key, work)


def _hosts(found: Machines) -> str:
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    for machine in found.values():
        lines += [f"{address} {machine.name}" for address in (machine.address, machine.address6)]
    return "\n".join(lines) + "\n"


def _remove(found: Machines) -> None:
    """Remove everything, also what is only half there; go on after a failure."""
    with contextlib.ExitStack() as stack:
        for namespace in [network.namespace for network in found.networks]:
            stack.callback(_delete_namespace, namespace)
        for machine in found.values():
            stack.callback(_delete_namespace, machine.namespace)
        stack.callback(remove_cgroups, [machine.cgroup for machine in found.values()])
        for machine in found.values():
            stack.callback(machine.kill)


def _delete_namespace(name: str) -> None:
    if Path("/run/netns", name).exists():
        run(["ip", "netns", "delete", name])
