# SPDX-License-Identifier: Apache-2.0
"""Stands for `FlowSharing`: streams that take a while to bring everything, and that can break."""

import attrs

from galelb.group.share_taking import CURRENT_S, GIVE_UP_S, SILENT_S

_LAG_S = 0.3
_RETRY_S = (0.2, 1.0)
_FRESH_S = 30.0


@attrs.define(eq=False)
class _Copy:
    peer: str
    progress: float
    complete: bool = False
    given_up: bool = False
    source: object = None
    """The run of the peer's daemon that the stream goes to; None = there is no stream."""
    stalled_at: float | None = None
    broken_at: float | None = None
    was_current: bool = False


class Copies:
    """One balancer's copies of its peers' flows; `changed` is called as FlowSharing does."""

    def __init__(self, cluster, name, changed):
        self._cluster, self._name, self._changed = cluster, name, changed
        self._followed = {}

    def peers(self, names):
        """Follow exactly these."""
        now = self._cluster.now
        for gone in self._followed.keys() - set(names):
            del self._followed[gone]
        for name in sorted(set(names) - self._followed.keys()):
            self._followed[name] = copy = _Copy(name, now, broken_at=now)
            self._dial(copy)

    @property
    def complete(self):
        return all(self._settled(copy) for copy in self._followed.values())

    as_of = float("inf")
    """What flows that nobody knows are taken for is not simulated."""

    def awaited(self, peer):
        """Return False, as above."""
        return False

    def current(self):
        return [name for name, copy in self._followed.items() if self._is_current(copy)]

    def follows(self, peer):
        """Whether changes of a peer come in."""
        copy = self._followed.get(peer)
        return copy is not None and copy.complete and self._flows(copy)

    def look(self):
        """See which streams go on after links or balancers changed."""
        for copy in list(self._followed.values()):
            if copy.source is None:
                continue
            if self._flows(copy):
                if copy.stalled_at is not None:
                    copy.stalled_at = None
                    self._later(_RETRY_S[0], self._bring, copy, copy.source)
            elif copy.stalled_at is None:
                copy.stalled_at = self._cluster.now
                told = self._cluster.says_goodbye(self._name, copy.peer, copy.source)
                self._later(0.001 if told else SILENT_S, self._break, copy)

    # inside

    def _settled(self, copy):
        if copy.complete:
            return True
        if copy.source is not None and copy.stalled_at is None:
            copy.progress = self._cluster.now
        copy.given_up |= self._cluster.now - copy.progress > GIVE_UP_S
        return copy.given_up

    def _is_current(self, copy):
        now = self._cluster.now
        if copy.broken_at is None:
            return copy.complete and self._behind(copy) < CURRENT_S
        return copy.was_current and now - copy.broken_at < _FRESH_S

    def _behind(self, copy):
        stalled = 0.0 if copy.stalled_at is None else self._cluster.now - copy.stalled_at
        return _LAG_S + stalled

    def _flows(self, copy):
        return copy.source is self._cluster.serving(self._name, copy.peer)

    def _dial(self, copy):
        copy.source = self._cluster.serving(self._name, copy.peer)
        copy.stalled_at = None
        if copy.source is None:
            self._later(self._cluster.rng.uniform(*_RETRY_S), self._dial, copy)
        else:
            takes = self._cluster.rng.uniform(*self._cluster.transfer)
            self._later(takes, self._bring, copy, copy.source)

    def _bring(self, copy, source):
        if copy.source is not source or copy.stalled_at is not None:
            return  # it breaks in a moment, or goes on when it flows again
        copy.complete, copy.given_up, copy.broken_at = True, False, None
        self._cluster.copied(copy.peer, self._name)
        self._changed()

    def _break(self, copy):
        if copy.stalled_at is None or copy.source is None:
            return
        if copy.broken_at is None:
            copy.was_current = self._behind(copy) < CURRENT_S + SILENT_S
            copy.broken_at = self._cluster.now
        copy.source = None
        self._changed()
        self._dial(copy)

    def _later(self, seconds, function, copy, *more):
        def act():
            if self._followed.get(copy.peer) is copy:
                function(copy, *more)

        self._cluster.later(self._name, seconds, act)
