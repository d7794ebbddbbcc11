# SPDX-License-Identifier: Apache-2.0
"""The announcer beside a bird that is none: what it writes, says and bears."""

from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
import trio
from fake_bird import FakeBird
from galelb_plugins.announce_bgp import plugin
from galelb_plugins.announce_bgp.bird_file import render
from galelb_plugins.announce_bgp.plugin import AnnounceBgp, AnnounceBgpOptions
from structlog.testing import capture_logs

from galelb.announcer import AnnouncerContext, Held, HeldKind
from galelb.config.models import BalancerConfig
from galelb.model import Interface
from galelb.plugins import Plugins
from galelb.testing.contract.announcer import VIPS, AnnouncerContract

LIMIT_S = 20


def options_in(folder):
    return AnnounceBgpOptions(
        include_file=folder / "galelb.conf", control_socket=folder / "bird.ctl"
    )


class TestContract(AnnouncerContract):
    announcer = AnnounceBgp

    def options(self, directory):
        return options_in(directory)

    @asynccontextmanager
    async def network(self, directory):
        self.bird = FakeBird(directory)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.bird.run)
            yield
            nursery.cancel_scope.cancel()

    def announced(self, directory):
        return self.bird.announced


@pytest.fixture
def bird(tmp_path):
    return FakeBird(tmp_path)


def make(bird, *present):
    there = Interface(
        name="lo", ifindex=1, mac="00:00:00:00:00:00", mtu=65536, addresses=tuple(present)
    )
    context = AnnouncerContext(
        config=BalancerConfig.model_construct(),
        directory=bird.file.parent,
        interfaces=lambda: {"lo": there},
    )
    return AnnounceBgp(options_in(bird.file.parent), context)


async def until(condition):
    with trio.fail_after(LIMIT_S):
        while not condition():
            await trio.sleep(0.005)


def addresses(*vips):
    return frozenset(str(vip.address) for vip in vips)


async def test_the_file_is_for_bird_to_read_and_nothing_else_is_left(bird, nursery):
    await nursery.start(bird.run)
    announcer = make(bird)
    await nursery.start(announcer.run)
    announcer.announce(VIPS)
    await until(lambda: bird.announced == addresses(*VIPS))

    assert 0o644 == bird.file.stat().st_mode & 0o777
    assert {"galelb.conf", "bird.ctl"} == {path.name for path in bird.file.parent.iterdir()}


async def test_bird_reads_its_configuration_only_when_something_changed(bird, nursery):
    await nursery.start(bird.run)
    announcer = make(bird)
    await nursery.start(announcer.run)
    announcer.announce(VIPS)
    await until(lambda: bird.announced == addresses(*VIPS))
    before = bird.configured
    for _ in range(10):
        announcer.announce(VIPS)
        await trio.sleep(0.02)

    assert before == bird.configured


async def test_bird_may_be_absent_and_return(bird, nursery):
    announcer = make(bird)
    with capture_logs() as logs:
        await nursery.start(announcer.run)
        announcer.announce(VIPS)
        await until(announcer.notes)
        note = announcer.notes()
        await trio.sleep(0.2)
        await nursery.start(bird.run)
        await until(lambda: bird.announced == addresses(*VIPS) and not announcer.notes())

    assert [f"bird's control socket {bird.socket}: No such file or directory"] == note
    told = [entry["error"] for entry in logs if entry["event"] == "bird_not_told"]
    assert note == [error for error in told if "No such file" in error]


async def test_a_missing_include_is_told_with_the_line_to_add(bird, nursery):
    bird.included = False
    await nursery.start(bird.run)
    announcer = make(bird)
    await nursery.start(announcer.run)
    announcer.announce(VIPS)
    await until(announcer.notes)
    note = announcer.notes()
    bird.included = True
    bird._read()
    await until(lambda: not announcer.notes())

    assert [f'bird.conf lacks: include "{bird.file.parent}/galelb*.conf";'] == note


async def test_sessions_that_are_down_are_told(bird, nursery):
    bird.established = False
    await nursery.start(bird.run)
    announcer = make(bird)
    await nursery.start(announcer.run)
    await until(announcer.notes)
    note = announcer.notes()
    bird.established = True
    await until(lambda: not announcer.notes())

    assert ["bird has no BGP session that is established"] == note


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"8002 bird.conf:7:1 syntax error\n", "bird refuses: bird.conf:7:1 syntax error"),
        (b"0000 hello\n", "is not bird"),
        (b"x" * 200_000, "too long"),
        (b"0001-more\n" * 600_000, "too long"),
        (b"\n\xff\xfe\n garbage\n8999 \xff\n", "bird refuses"),
        (b"0001 BIRD\n", "does not take its configuration: BIRD"),
        (b"000", "does not answer"),
    ],
)
async def test_odd_answers_are_told_and_borne(bird, nursery, monkeypatch, answer, words):
    monkeypatch.setattr(plugin, "_ANSWER_S", 1.0 if "answer" in words else 10.0)
    bird.answer = answer
    await nursery.start(bird.run)
    announcer = make(bird)
    await nursery.start(announcer.run)
    announcer.announce(VIPS)
    await until(announcer.notes)
    note = announcer.notes()
    bird.answer = None
    await until(lambda: bird.announced == addresses(*VIPS) and not announcer.notes())

    assert words in note[0]


async def test_a_folder_that_is_missing_is_told_and_withdrawing_ends(bird, nursery):
    announcer = AnnounceBgp(options_in(bird.file.parent / "none"), make(bird).context)
    await nursery.start(announcer.run)
    announcer.announce(VIPS)
    await until(announcer.notes)

    with trio.fail_after(LIMIT_S):
        await announcer.withdraw()

    assert "No such file or directory" in announcer.notes()[0]


async def test_protocols_of_another_instance_are_not_its_business(bird, nursery, monkeypatch):
    monkeypatch.setattr(plugin, "_WITHDRAW_S", LIMIT_S)
    other = Held(address=ip_address("198.51.100.1"), interface="lo", kind=HeldKind.VIP)
    await nursery.start(bird.run)
    announcer = make(bird)
    await nursery.start(announcer.run)
    read = bird._read

    def read_both():
        read()
        bird.text += render([other])

    bird._read = read_both
    announcer.announce(VIPS)
    await until(lambda: bird.announced == addresses(*VIPS, other))
    with capture_logs() as logs:
        await announcer.withdraw()

    assert [] == [entry for entry in logs if entry["event"] == "bgp_not_withdrawn"]
    assert addresses(other) == bird.announced


# After a restart


async def test_what_was_announced_goes_on_for_a_moment_while_it_is_there(
    bird, nursery, monkeypatch
):
    monkeypatch.setattr(plugin, "_ADOPTED_S", 1.0)
    bird.file.write_text(render(VIPS))
    await nursery.start(bird.run)
    seen = []
    original = bird._read
    bird._read = lambda: (original(), seen.append(bird.announced))
    announcer = make(bird, VIPS[0].address, VIPS[2].address)

    await nursery.start(announcer.run)
    await until(lambda: bird.announced == frozenset())

    assert [addresses(VIPS[0], VIPS[2]), frozenset()] == seen


async def test_nothing_to_announce_is_no_reason_to_withdraw_at_once(bird, nursery, monkeypatch):
    monkeypatch.setattr(plugin, "_ADOPTED_S", 1000.0)
    bird.file.write_text(render(VIPS))
    await nursery.start(bird.run)
    announcer = make(bird, *(vip.address for vip in VIPS))

    await nursery.start(announcer.run)
    await until(lambda: bird.configured)
    for _ in range(20):
        announcer.announce([])
        await trio.sleep(0.01)
    before = bird.announced
    announcer.announce(VIPS[:1])
    announcer.announce([])
    await until(lambda: bird.announced == frozenset())

    assert addresses(*VIPS) == before


async def test_what_is_announced_anew_in_time_was_never_withdrawn(bird, nursery, monkeypatch):
    monkeypatch.setattr(plugin, "_ADOPTED_S", 1000.0)
    bird.file.write_text(render(VIPS))
    await nursery.start(bird.run)
    seen = []
    original = bird._read
    bird._read = lambda: (original(), seen.append(bird.announced))
    announcer = make(bird, *(vip.address for vip in VIPS))

    await nursery.start(announcer.run)
    await until(lambda: seen)
    announcer.announce(VIPS)
    announcer.announce(VIPS[:1])
    await until(lambda: bird.announced == addresses(VIPS[0]))

    assert [addresses(*VIPS), addresses(VIPS[0])] == seen


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"protocol direct galelb_x { y interface ::::/"]
)
async def test_a_file_that_is_none_of_ours_is_replaced(bird, nursery, content):
    bird.file.write_bytes(content)
    announcer = make(bird, *(vip.address for vip in VIPS))
    await nursery.start(announcer.run)
    await until(lambda: bird.file.read_bytes() == render([]).encode())


async def test_another_file_is_used_after_a_reload(bird, nursery):
    await nursery.start(bird.run)
    announcer = make(bird)
    await nursery.start(announcer.run)
    announcer.announce(VIPS)
    await until(lambda: bird.announced == addresses(*VIPS))
    bird.file = bird.file.with_name("other.conf")

    options = AnnounceBgpOptions(include_file=bird.file, control_socket=bird.socket)
    announcer.reload(options, BalancerConfig.model_construct())
    await until(lambda: bird.file.exists() and bird.announced == addresses(*VIPS))


def test_it_is_registered():
    assert AnnounceBgp is Plugins.discover(environ={}).find("announcer", "announce_bgp")
