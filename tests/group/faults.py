# SPDX-License-Identifier: Apache-2.0
"""Random faults for a simulated group, from a seed; and what they did, to be read."""

import random

_SLOW_S = (0.1, 0.5, 1.0)
_FROZEN_S = (0.3, 1.0, 2.9, 3.5, 8.0)


class Faults:
    """Does `count` random things to a cluster, then mends all that they broke."""

    def __init__(self, cluster, seed, *, pause=(0.0, 6.0)):
        self._cluster, self._pause = cluster, pause
        self._rng = random.Random(f"faults {seed}")
        self._down = []
        self.told = []

    def happen(self, count):
        for _ in range(count):
            act = self._rng.choice(
                (
                    self._kill,
                    self._power_off,
                    self._boot,
                    self._boot,
                    self._part,
                    self._part_one_way,
                    self._heal,
                    self._slow,
                    self._freeze,
                    self._leave,
                    self._node,
                    self._decide,
                )
            )
            act()
            self._cluster.run(self._rng.choice((0.05, self._rng.uniform(*self._pause))))
        self.mend()

    def mend(self):
        """Bring everything back."""
        cluster = self._cluster
        cluster.run(4)  # who was leaving is gone
        for name in cluster.names:
            cluster.slow(name, 0.0)
        cluster.heal()
        for name in cluster.names:
            if not cluster.members[name].running:
                cluster.boot(name)
        for node in cluster.nodes:
            cluster.nodes[node] = True
        self._tell("mend")

    def _tell(self, *what):
        self.told.append((round(self._cluster.now, 3), *what))

    def _one(self):
        running = self._cluster.running()
        return self._rng.choice(running) if running else None

    def _kill(self):
        if name := self._one():
            self._tell("kill", name)
            self._cluster.kill(name)

    def _power_off(self):
        if name := self._one():
            self._tell("power off", name)
            self._cluster.power_off(name)

    def _boot(self):
        down = [name for name in self._cluster.names if name not in self._cluster.running()]
        if down:
            name = self._rng.choice(down)
            self._tell("boot", name)
            self._cluster.boot(name)

    def _leave(self):
        if name := self._one():
            self._tell("leave", name)
            self._cluster.leave(name)

    def _part(self):
        names = self._rng.sample(self._cluster.names, len(self._cluster.names))
        at = self._rng.randrange(1, len(names))
        nodes = list(self._cluster.nodes)
        halves = None
        if self._rng.random() < 0.5:
            split = self._rng.randrange(len(nodes) + 1)
            halves = nodes[:split], nodes[split:]
        self._tell("part", sorted(names[:at]), sorted(names[at:]), halves)
        self._cluster.part(names[:at], names[at:], nodes=halves)

    def _part_one_way(self):
        names = self._rng.sample(self._cluster.names, len(self._cluster.names))
        at = self._rng.randrange(1, len(names))
        self._tell("part one way", sorted(names[:at]), sorted(names[at:]))
        self._cluster.cut(names[:at], names[at:], one_way=True)

    def _heal(self):
        self._tell("heal")
        self._cluster.heal()

    def _slow(self):
        name, seconds = self._rng.choice(self._cluster.names), self._rng.choice(_SLOW_S)
        self._tell("slow", name, seconds)
        self._cluster.slow(name, seconds)

    def _freeze(self):
        if name := self._one():
            seconds = self._rng.choice(_FROZEN_S)
            self._tell("freeze", name, seconds)
            self._cluster.freeze(name, seconds)

    def _node(self):
        node = self._rng.choice(list(self._cluster.nodes))
        self._tell("node", node)
        if self._cluster.nodes[node] and self._rng.random() < 0.5:
            self._cluster.end_node(node)
        else:
            self._cluster.nodes[node] = not self._cluster.nodes[node]

    def _decide(self):
        live = self._cluster.live()
        if live:
            one, node = self._rng.choice(live), self._rng.choice(list(self._cluster.nodes))
            draining = self._rng.random() < 0.3
            self._tell("decide", one.name, node, draining)
            one.decide(node, draining=draining)
