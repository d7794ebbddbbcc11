# SPDX-License-Identifier: Apache-2.0
"""What peers were told of the flows of one family, and what is new since: whole columns at a time.

Beside each entry of the forward table stand both words as peers know them. An entry is new when it
holds another slice or port than that, changed when state bits differ, and told again when its
flow's last packet is a quarter of its timeout later, so that copies do not expire.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import numpy as np
import numpy.typing as npt
from galelb_plugins.l4_nat.batch import RECORDS, SHARED_STATE, Records
from galelb_plugins.l4_nat.columns import Columns, Indices, Places, WaysBack, Words
from galelb_plugins.l4_nat.entries import FIN, RST, SEEN, TCP, USED
from galelb_plugins.l4_nat.importer import FRESH_CLIENT, FRESH_NODE
from galelb_plugins.l4_nat.options import L4NatOptions

from galelb.forwarder import BpfMap, HostView

__all__ = ["Told", "make_timeouts"]

Flags = npt.NDArray[np.bool_]
Ticks = npt.NDArray[np.int64]

_STEP = 1 << 16
"""Entries looked at at a time: some arrays of half a megabyte, and the GIL is free in between."""
_BACKS = 1 << 17
"""Ways back looked at per call: with more flows each is looked at every second, third ... call."""
_STATE = np.uint64(SHARED_STATE << 16)
_AGE = np.uint64(0xFFFF)
_SAME = np.uint64(0xFFFFFFFF << 32)
_AGES = 1 << 16


def make_timeouts(options: L4NatOptions, host: HostView) -> Ticks:
    """Return timeouts in ticks by (client's state & 15) * 16 + (node's state & 15): state.h."""
    found = []
    for forward in range(16):
        for back in range(16):
            both = forward | back
            if not both & TCP:
                seconds = options.udp_timeout if both & SEEN else options.udp_unreplied_timeout
            elif both & (FIN | RST):
                seconds = options.tcp_fin_timeout
            elif forward & SEEN:
                seconds = options.tcp_established_timeout
            else:
                seconds = options.tcp_syn_timeout
            found.append(host.ticks(seconds))
    return np.array(found, np.int64)


def _states(words: Words) -> Ticks:
    return (words >> np.uint64(16) & np.uint64(SHARED_STATE)).astype(np.int64)


def _differ(words: Words, told: Words) -> Flags:
    """Return which words stand for another flow than was told, or for another state of it."""
    differ: Flags = (words ^ told) & (_SAME | _STATE) != 0
    return differ


def _idle(words: Words, tick: int) -> Ticks:
    """Return ticks since words were written; what is a moment in the future counts as now."""
    idle = (tick - (words & _AGE).astype(np.int64)) % _AGES
    return np.where(idle > _AGES // 2, 0, idle)


@attrs.frozen
class _Seen:
    """Flows that were read: where, and all that is known of them."""

    at: Indices
    keys: Words
    words: Words
    backs: Words

    def only(self, which: Flags) -> _Seen:
        return _Seen(self.at[which], self.keys[which], self.words[which], self.backs[which])


class Told:
    """Of one family; not thread safe."""

    def __init__(
        self, maps: Mapping[str, BpfMap], version: int, seed: int, timeouts: Ticks
    ) -> None:
        self.version = version
        self._forward = Columns(maps[f"l4_nat_flows{version}"], version, seed)
        self._back = WaysBack(maps, version, seed)
        self._quarters = timeouts // 4
        self._words = np.zeros(self._forward.entries, np.uint64)
        self._backs = np.zeros(self._forward.entries, np.uint64)
        self._round = 0
        self._flows = 0

    def forget(self) -> None:
        """Take it that peers know nothing."""
        self._words.fill(0)
        self._backs.fill(0)

    def changes(self, places: Places, tick: int) -> Iterator[Records]:
        """Iterate over the flows that peers must be told of, and take them for told."""
        turns = 1 + self._flows // _BACKS
        self._round += 1
        flows = 0
        for number, first in enumerate(range(0, self._forward.entries, _STEP)):
            words = self._forward.words(first, first + _STEP)
            told = self._words[first : first + _STEP]
            used = words >= np.uint64(USED)
            flows += int(np.count_nonzero(used))
            np.copyto(told, np.uint64(0), where=~used)
            wanted = used
            if (number + self._round) % turns:
                wanted = used & _differ(words, told)
            at = np.flatnonzero(wanted)
            if len(at):
                seen = self._read(at + first, words[at], places)
                changed = self._changed(seen, tick)
                if len(changed.at):
                    yield self._tell(changed, tick)
        self._flows = flows

    def news(self, hashes: Words, places: Places, tick: int) -> Iterator[Records]:
        """Iterate over what is new of flows with these hashes of keys, and take it for told."""
        at = self._forward.near(hashes)
        words = self._forward.rows[at, -1]
        new = (words >= np.uint64(USED)) & _differ(words, self._words[at])
        changed = self._changed(self._read(at[new], words[new], places), tick)
        if len(changed.at):
            yield self._tell(changed, tick)

    def everything(self, places: Places, tick: int) -> Iterator[Records]:
        """Iterate over all flows; what peers were told stays as it was."""
        for first in range(0, self._forward.entries, _STEP):
            words = self._forward.words(first, first + _STEP)
            at = np.flatnonzero(words >= np.uint64(USED))
            seen = self._read(at + first, words[at], places)
            if len(seen.at):
                yield self._records(seen, np.zeros(len(seen.at), np.uint8), tick)

    def heard(self, keys: Words, words: Words, backs: Words) -> None:
        """Take flows for told as a peer knows them: `keys` in rows, both words as it said them."""
        at = self._forward.find(keys)
        same = (at >= 0) & ((self._forward.rows[at, -1] ^ words) & _SAME == 0)
        at, words, backs = at[same], words[same], backs[same]
        known = (self._words[at] ^ words) & _SAME == 0
        self._words[at] = np.where(known, _together(self._words[at], words), words)
        self._backs[at] = np.where(known, _together(self._backs[at], backs), backs)

    def _read(self, at: Indices, words: Words, places: Places) -> _Seen:
        """Read the rest of entries; those that change at this moment are left out."""
        keys, good = self._forward.keys(at, words)
        backs = self._back.words(keys, words, places)
        return _Seen(at, keys, words, backs).only(good & (backs != 0))

    def _changed(self, seen: _Seen, tick: int) -> _Seen:
        told, told_back = self._words[seen.at], self._backs[seen.at]
        other = _differ(seen.words, told)
        other |= (seen.backs ^ told_back) & _STATE != 0
        now = np.minimum(_idle(seen.words, tick), _idle(seen.backs, tick))
        before = np.minimum(_idle(told, tick), _idle(told_back, tick))
        state = (_states(seen.words) & 15) * 16 + (_states(seen.backs) & 15)
        return seen.only(other | (before - now > self._quarters[state]))

    def _tell(self, seen: _Seen, tick: int) -> Records:
        mine = (seen.words ^ self._words[seen.at]) & (_STATE | _AGE) != 0
        nodes = (seen.backs ^ self._backs[seen.at]) & (_STATE | _AGE) != 0
        fresh = mine * np.uint8(FRESH_CLIENT) + nodes * np.uint8(FRESH_NODE)
        self._words[seen.at] = seen.words
        self._backs[seen.at] = seen.backs
        return self._records(seen, fresh, tick)

    def _records(self, seen: _Seen, fresh: npt.NDArray[np.uint8], tick: int) -> Records:
        """Return flows with the numbers of services and slices that they have here."""
        made = np.zeros(len(seen.at), RECORDS[self.version])
        last = seen.keys[:, -1]
        low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
        if self.version == 4:
            made["client"][:, 0] = last >> half
        else:
            for column in range(4):
                part = seen.keys[:, column // 2]
                made["client"][:, column] = part >> half if column % 2 else part & low
        made["client_port"] = last >> np.uint64(16) & _AGE
        made["service"] = last & _AGE
        made["slice"] = seen.words >> np.uint64(48)
        made["port"] = seen.words >> half & _AGE
        made["age"] = _idle(seen.words, tick)
        made["back_age"] = _idle(seen.backs, tick)
        made["state"] = _states(seen.words)
        made["back_state"] = _states(seen.backs)
        made["fresh"] = fresh
        return made


def _together(one: Words, other: Words) -> Words:
    """Return words of the same flow with the bits of both and the later age."""
    later = ((other & _AGE).astype(np.int64) - (one & _AGE).astype(np.int64)) % _AGES
    ages = np.where(later < _AGES // 2, other & _AGE, one & _AGE)
    return (one | other & _STATE) & ~_AGE | ages
