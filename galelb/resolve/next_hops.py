# SPDX-License-Identifier: Apache-2.0
"""Next hops as numbered objects: what gale_next_hops and gale_next_hop_index shall hold.

An index means one (interface, destination MAC) for as long as anything may hold it:

- **node** objects are held by gale_nodes only, which the control plane writes itself. Their
  index stays with its key; one that no node is bound to may be taken over, oldest first, when
  the array is full.
- **client** objects are held by flows that nobody can list. When routes change, a flow may have
  to leave by another way although its old next hop is still right for other clients. So
  `invalidate_clients` withdraws the index (programs then ask the FIB), and a key that is learned
  again gets another of its own indices: up to four in turn, so that a flow which slept through
  a change does not find its old index valid again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Literal

import attrs

from galelb.abi import NextHopFlag
from galelb.errors import GaleError
from galelb.model import IPAddress, NextHop

__all__ = ["GENERATIONS", "NextHopChanges", "NextHopTable"]

GENERATIONS = 4
"""How many indices a client's key uses in turn."""

_MAX_MTU = 0xFFFF
_HOP_FIELDS = tuple(field.name for field in attrs.fields(NextHop))
_Key = tuple[int, str]
_Kind = Literal["node", "client"]


@attrs.frozen(kw_only=True)
class NextHopChanges:
    """Writes to make, in the order of the fields; entries are (key, leaf) as `BpfMap` takes them.

    In this order a program never finds an index whose object is not written yet.
    """

    index_delete: tuple[dict[str, Any], ...] = ()
    """Keys to delete from gale_next_hop_index."""
    next_hops: tuple[tuple[int, dict[str, Any]], ...] = ()
    """Entries of gale_next_hops."""
    index_set: tuple[tuple[dict[str, Any], int], ...] = ()
    """Entries of gale_next_hop_index."""

    def __bool__(self) -> bool:
        return bool(self.index_delete or self.next_hops or self.index_set)


@attrs.define
class _Object:
    kind: _Kind
    hop: NextHop
    valid: bool = True

    @property
    def key(self) -> _Key:
        return self.hop.ifindex, self.hop.dst_mac


class NextHopTable:
    """Numbers next hops from 1 to `capacity - 1` and remembers what is not written yet.

    `capacity` is the size of gale_next_hops. Clients use at most the part that is not reserved
    for nodes (by default half), so that no crowd of clients makes a node unreachable.
    """

    def __init__(self, capacity: int, *, reserved_for_nodes: int | None = None) -> None:
        if not 2 <= capacity <= 1 << 16:
            raise ValueError(f"capacity must be 2 to 65536, got {capacity}")
        self.capacity = capacity
        reserved = capacity // 2 if reserved_for_nodes is None else reserved_for_nodes
        self._client_room = max(0, capacity - 1 - reserved)
        self._clear()

    def assign(self, hop: NextHop) -> int:
        """Return the index of a node's next hop, the same as ever for its interface and MAC.

        A new MTU or source MAC replaces the content. Returns 0 when the array is full of
        objects in use.
        """
        hop = _clean(hop)
        key = (hop.ifindex, hop.dst_mac)
        index = self._of_node.get(key) or self._free_index() or self._unused_node_index()
        if index:
            self._of_node[key] = index
            self._put(index, "node", hop)
        return index

    def set_node(self, address: IPAddress, hop: NextHop | None) -> int:
        """Bind a node to its next hop; None unbinds it. Returns its index, 0 = unresolved."""
        new = self.assign(hop) if hop is not None else 0
        old = self._bound.pop(address, 0)
        if old:
            self._users[old] -= 1
        if new:
            self._bound[address] = new
            self._users[new] = self._users.get(new, 0) + 1
        return new

    def node_index(self, address: IPAddress) -> int:
        """Return the index that a node is bound to, 0 = unresolved."""
        return self._bound.get(address, 0)

    def bound(self) -> dict[IPAddress, int]:
        """Return the index of every node that has one."""
        return dict(self._bound)

    def client_hop(self, ifindex: int, dmac: str, smac: str, mtu: int) -> int:
        """Learn the way to clients that a program found in the FIB; return its index.

        Returns 0 when clients may have no more objects: programs go on asking the FIB.
        """
        hop = _clean(NextHop(ifindex=ifindex, dst_mac=dmac, src_mac=smac, mtu=mtu))
        key = (hop.ifindex, hop.dst_mac)
        mine = self._of_client.setdefault(key, deque())
        known = bool(mine) and self._objects[mine[-1]].valid
        index = mine[-1] if known else self._next_generation(mine)
        if index:
            self._put(index, "client", hop)
            self._dirty_keys.add(key)
        elif not mine:
            del self._of_client[key]
        return index

    def invalidate_clients(self, ifindex: int | None = None, mac: str | None = None) -> int:
        """Withdraw the clients' objects; programs ask the FIB again. Returns how many.

        With an interface, or an interface and a MAC address, only those.
        """
        mac = mac.lower() if mac is not None else None
        count = 0
        for key, indices in self._of_client.items():
            if (ifindex is not None and key[0] != ifindex) or (mac is not None and key[1] != mac):
                continue
            current = self._objects[indices[-1]]
            if current.valid:
                current.valid = False
                self._dirty.add(indices[-1])
                self._dirty_keys.add(key)
                count += 1
        return count

    def entries(self) -> NextHopChanges:
        """Return what changed since the last call; the caller writes it."""
        changes = self._changes(self._dirty, self._dirty_keys)
        self._dirty.clear()
        self._dirty_keys.clear()
        return changes

    def all_entries(self) -> NextHopChanges:
        """Return everything, for maps that were just made; nothing counts as changed then."""
        self._dirty.clear()
        self._dirty_keys.clear()
        return self._changes(set(self._objects), set(self._of_client))

    def statistics(self) -> dict[str, int]:
        """Return counts for debugging and metrics."""
        valid = sum(o.valid for o in self._objects.values() if o.kind == "client")
        return {
            "capacity": self.capacity - 1,
            "nodes": len(self._of_node),
            "clients": self._client_objects,
            "clients_valid": valid,
        }

    def snapshot(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        objects = [
            {"index": index, "kind": one.kind}
            | {name: getattr(one.hop, name) for name in _HOP_FIELDS}
            for index, one in self._objects.items()
        ]
        return {
            "objects": objects,
            "clients": [list(indices) for indices in self._of_client.values()],
            "nodes": {str(address): index for address, index in self._bound.items()},
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take up a snapshot into an empty table, so that indices in pinned maps keep meaning.

        Routes may have changed while nobody looked: clients' objects come back withdrawn, and
        `entries` returns all. Raises GaleError for data that no table wrote; the table is then
        empty.
        """
        if self._objects:
            raise ValueError("restore needs an empty table")
        try:
            self._restore(data)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            self._clear()
            raise GaleError(
                f"the saved next hops are not usable ({error!r}); flows hold their numbers, so "
                "run `galelb detach` to remove the old instance"
            ) from error

    # inside

    def _clear(self) -> None:
        self._objects: dict[int, _Object] = {}
        self._next_fresh = 1
        self._of_node: dict[_Key, int] = {}
        self._of_client: dict[_Key, deque[int]] = {}
        self._client_objects = 0
        self._bound: dict[IPAddress, int] = {}
        self._users: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._dirty_keys: set[_Key] = set()

    def _restore(self, data: Mapping[str, Any]) -> None:
        for saved in data["objects"]:
            hop = _clean(NextHop(**{name: saved[name] for name in _HOP_FIELDS}))
            if not 1 <= saved["index"] < self.capacity or saved["index"] in self._objects:
                raise ValueError(f"index {saved['index']}")
            if saved["kind"] == "node":
                self._of_node[hop.ifindex, hop.dst_mac] = saved["index"]
            self._put(saved["index"], saved["kind"], hop)
        for indices in data["clients"]:
            key = self._objects[indices[0]].key
            self._of_client[key] = deque(indices)
            self._client_objects += len(indices)
            for index in indices:
                self._objects[index].valid = False
            self._dirty_keys.add(key)
        for address, index in data["nodes"].items():
            self._bound[ip_address(address)] = index
            self._users[self._check_node(index)] = self._users.get(index, 0) + 1
        self._next_fresh = max(self._objects, default=0) + 1

    def _check_node(self, index: int) -> int:
        if self._objects[index].kind != "node":
            raise ValueError(f"index {index}")
        return index

    def _put(self, index: int, kind: _Kind, hop: NextHop) -> None:
        new = _Object(kind, hop)
        if self._objects.get(index) != new:
            self._objects[index] = new
            self._dirty.add(index)

    def _free_index(self) -> int:
        if self._next_fresh >= self.capacity:
            return 0
        self._next_fresh += 1
        return self._next_fresh - 1

    def _unused_node_index(self) -> int:
        """Take the index from the node object that was made first and is bound to no node."""
        for key, index in self._of_node.items():
            if not self._users.get(index):
                del self._of_node[key]
                return index
        return 0

    def _next_generation(self, mine: deque[int]) -> int:
        """Return another index for a client's key, as the last one of its own."""
        index = 0
        if len(mine) < GENERATIONS and self._client_objects < self._client_room:
            index = self._free_index()
        if index:
            self._client_objects += 1
        elif mine:
            index = mine.popleft()
        if index:
            mine.append(index)
        return index

    def _changes(self, objects: set[int], keys: set[_Key]) -> NextHopChanges:
        current = {key: self._of_client[key][-1] for key in sorted(keys)}
        return NextHopChanges(
            index_delete=tuple(_key(k) for k, i in current.items() if not self._objects[i].valid),
            next_hops=tuple((i, _leaf(self._objects[i])) for i in sorted(objects)),
            index_set=tuple((_key(k), i) for k, i in current.items() if self._objects[i].valid),
        )


def _clean(hop: NextHop) -> NextHop:
    """Return the hop with MAC addresses in one spelling and an MTU that fits 16 bits."""
    return attrs.evolve(
        hop,
        dst_mac=_mac(hop.dst_mac).hex(":"),
        src_mac=_mac(hop.src_mac).hex(":"),
        mtu=min(hop.mtu, _MAX_MTU),
    )


def _mac(text: str) -> bytes:
    mac = bytes.fromhex(text.replace(":", ""))
    if len(mac) != 6:
        raise ValueError(f"not a MAC address: {text!r}")
    return mac


def _leaf(entry: _Object) -> dict[str, Any]:
    return {
        "ifindex": entry.hop.ifindex,
        "mtu": entry.hop.mtu,
        "dst": _mac(entry.hop.dst_mac),
        "src": _mac(entry.hop.src_mac),
        "flags": int(NextHopFlag.VALID) if entry.valid else 0,
    }


def _key(key: _Key) -> dict[str, Any]:
    return {"ifindex": key[0], "dst": _mac(key[1]), "pad": 0}
