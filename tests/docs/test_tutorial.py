# SPDX-License-Identifier: Apache-2.0
"""The tutorial of two one-armed balancers works as it is written, on five hosts."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from .network import Host, network
from .pages import ROOT
from .walk import Step, dialogue, missing, steps

PAGE = ROOT / "docs" / "tutorial" / "two-balancers-one-armed.md"
ADDRESSES = {
    "lb-0": "192.168.10.11",
    "lb-1": "192.168.10.12",
    "node-0": "192.168.10.21",
    "node-1": "192.168.10.22",
    "client": "192.168.10.50",
}
PATIENCE_S = 90
"""For what a reader would look at again; a slow machine compiles for long."""


@attrs.define
class Reader:
    """Does what the page says."""

    hosts: dict[str, Host]
    lost: str = ""

    def follow(self, step: Step) -> None:
        """Do one step; a verb that is none of ours fails."""
        getattr(self, f"do_{step.verb}")(step)

    def do_run(self, step: Step) -> None:
        for name in step.words:
            host = self.hosts[self.survivor if name == "survivor" else name]
            for command, shown in dialogue(step.text):
                self._see(host, command, shown)

    def _see(self, host: Host, command: str, shown: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while True:
            done = host.attempt(command)
            gone = missing(shown, done.stdout)
            if not gone and not done.returncode:
                return
            if time.monotonic() > end or not shown:
                pytest.fail(
                    f"{host.name}$ {command} (exit code {done.returncode})\n{done.stdout}"
                    f"\nnot there: {gone}\n{host.logs()}"
                )
            time.sleep(0.5)

    def do_start(self, step: Step) -> None:
        for name in step.words:
            for command, _ in dialogue(step.text):
                self.hosts[name].start(command)

    def do_write(self, step: Step) -> None:
        *names, path = step.words
        for name in names:
            # "name differs: lb-1 on the other one", says the page.
            text = step.text.replace(f'name = "{names[0]}"', f'name = "{name}"', 1)
            self.hosts[name].write(path, text)

    def do_copy(self, step: Step) -> None:
        source, target, path = step.words
        self.hosts[target].write(path, self.hosts[source].run(f"cat {path}"), 0o600)

    def do_end(self, step: Step) -> None:
        name, what = step.words
        self.hosts[name].end_one(what, signal.SIGINT)

    def do_lose(self, step: Step) -> None:
        ((command, _),) = dialogue(step.text)
        client = self.hosts["client"]
        client.start(f"bash -c '{command}'")
        self._until(lambda: len(client.said()) >= 10, "requests before the balancer is lost")
        peers = self.hosts[step.words[0]].run("galelb peers")
        self.lost = next(n for n in step.words if f"VIPs of {n}: 192.168.10.100" in peers)
        self.hosts[self.lost].plug(up=False)
        before = len(client.said())
        self._until(lambda: len(client.said()) >= before + 30, "requests after a balancer is lost")
        client.end()
        assert "lost" not in client.said()

    @property
    def survivor(self) -> str:
        """The balancer that was not lost."""
        return next(n for n in ("lb-0", "lb-1") if n != self.lost)

    def do_return(self, step: Step) -> None:
        del step
        self.hosts[self.lost].plug(up=True)

    @staticmethod
    def _until(there: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not there():
            assert time.monotonic() < end, f"there are no {what}"
            time.sleep(0.1)


@pytest.mark.netns
def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    with network(ADDRESSES, tmp_path) as hosts:
        reader = Reader(hosts)
        for step in steps(PAGE):
            reader.follow(step)
        for host in hosts.values():
            host.end(signal.SIGINT)
        for name in ("lb-0", "lb-1"):
            hosts[name].run("galelb detach")
        for name in ("node-0", "node-1"):
            assert "192.168.10.100" not in hosts[name].run("ip address show dev lo")


def test_the_page_says_what_every_block_is_for() -> None:
    marked = sum(1 for step in steps(PAGE) if step.text)
    fences = PAGE.read_text().count("\n```") // 2

    assert marked == fences - 1, "all but the drawing"


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("a  1 ...\n", "x\na 27.5 b c\n", []),
        ("a ...\n", "a\n", []),
        ("VIPs of lb-...: 192.0.2.1\n", "VIPs of lb-1: 192.0.2.1\n", []),
        ("VIPs of lb-...: 192.0.2.1\n", "VIPs of lb-1: 192.0.2.2\n", None),
        ("node-1 down ...\n", "node-1 routable\n", None),
    ],
)
def test_what_a_page_shows_is_compared_line_by_line(
    shown: str, printed: str, expected: list[str] | None
) -> None:
    assert (shown.splitlines() if expected is None else expected) == missing(shown, printed)
