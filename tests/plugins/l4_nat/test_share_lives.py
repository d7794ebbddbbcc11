# SPDX-License-Identifier: Apache-2.0
"""Two balancers that share flows while packets change them on all CPUs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from galelb.testing.contention import run_together
from galelb.testing.lives import CLOSE, OPEN, USE, Lives

pytestmark = pytest.mark.bpf

LIFE = (*OPEN, *USE, *CLOSE)
KEYS = 300
LIVES = 2000
"""Of one call."""
BATCHES = 24
"""How many are told before all ends."""
TIMEOUT = 300.0
"""Five seconds here: no thread waits for a CPU as long as that in the midst of a life."""
OPTIONS = {
    "max_flows": 65536,
    "hurry": True,
    "tcp_established_timeout": TIMEOUT,
    "tcp_syn_timeout": TIMEOUT,
    "tcp_fin_timeout": TIMEOUT,
    "port_quarantine": 20.0,
}
OWN, SAME = 10_000, 50_000
"""First flows: of the first balancer alone, and of both."""


def lives(balancer, version: int) -> Lives:
    source = next(
        (one.address for one in balancer.share.own() if one.address.version == version), None
    )
    return Lives(balancer.runner, balancer.service(f"tcp{version}"), source)


class Talk:
    """Threads in which two balancers tell each other their flows until all others are done."""

    def __init__(self, *balancers) -> None:
        self._balancers = balancers
        self._over = threading.Event()
        self._problems: list[BaseException] = []
        self._batches = 0

    @property
    def enough(self) -> bool:
        """Whether all may end."""
        return self._batches >= BATCHES or bool(self._problems)

    def tell(self, number: int) -> None:
        one, other = self._balancers[number], self._balancers[1 - number]
        try:
            while not self._over.is_set():
                self._batches += len(one.tell(other))
        except BaseException as error:
            self._problems.append(error)

    def beside(self, works: dict[int, list[Callable[[], None]]]) -> None:
        """Run works by the number of their balancer, in whose namespace they are."""

        def all_of(number: int) -> None:
            try:
                run_together(self._balancers[number].runner.sandbox, works[number])
            except BaseException as error:
                self._problems.append(error)

        packets = [threading.Thread(target=all_of, args=(number,)) for number in works]
        talks = [threading.Thread(target=self.tell, args=(number,)) for number in (0, 1)]
        for thread in (*packets, *talks):
            thread.start()
        for thread in packets:
            thread.join()
        self._over.set()
        for thread in talks:
            thread.join()
        assert [] == self._problems


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mode", ["full_nat", "dnat"])
def test_no_flow_is_lost_or_crossed_while_flows_are_shared(group, audit, mode, version) -> None:
    """Own flows of the first one live undisturbed; those that both have end somehow, and whole."""
    balancers = group(mode, **OPTIONS)
    talk = Talk(*balancers)
    records = {}

    with lives(balancers[0], version) as first, lives(balancers[1], version) as second:

        def lead(name: str, many: Lives, at: int, lane: int) -> None:
            found = records[name] = []
            while not talk.enough:
                found.append(many.live(LIFE, LIVES, first=at, count=KEYS, lane=lane))

        talk.beside(
            {
                0: [
                    lambda: lead("own", first, OWN, 0),
                    lambda: lead("same", first, SAME, 1),
                ],
                1: [lambda: lead("other", second, SAME, 0)],
            }
        )
    for _ in range(4):
        balancers[0].tell(balancers[1])
        balancers[1].tell(balancers[0])

    for own in records["own"]:
        assert (0, 0) == (own.crossed, own.moved)
        assert LIVES == own.ended + sum(own.missed)
        assert [0] * (len(LIFE) - 1) == list(own.missed[1:])
    assert {0} == {one.crossed for name in ("same", "other") for one in records[name]}
    assert [[], []] == [audit(one.runner).problems for one in balancers]
