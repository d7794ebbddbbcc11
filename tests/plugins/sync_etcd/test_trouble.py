# SPDX-License-Identifier: Apache-2.0
"""etcd that goes, comes back, forgets, refuses or talks nonsense; and groups beside each other."""

import gc
import warnings
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
import trio
from certificates import make_certificates
from etcd_server import Door, free_port, running_etcd
from galelb_plugins.sync_etcd.layout import encode, read_change
from galelb_plugins.sync_etcd.plugin import SyncEtcd
from structlog.testing import capture_logs

from galelb.errors import GaleError
from galelb.group.key_file import create_keys, write_keys
from galelb.testing.contract.transport import Balancer, until
from galelb.transport import TransportContext

LIMIT_S = 90


def make(directory, name, url, **options):
    keys = directory / "keys"
    if not keys.exists():
        write_keys(keys, create_keys(), new=True)
    balancer = Balancer(name, (ip_address("127.0.0.1"), 1000 + ord(name[0])))
    context = TransportContext(
        name=name,
        address=balancer.place[0],
        port=balancer.place[1],
        peers=(),
        directory=directory,
        peer_changed=balancer.peer_changed,
        record_changed=balancer.record_changed,
    )
    chosen = {"endpoints": [url], "group_key_file": keys, "lease_ttl": "2s"} | options
    balancer.transport = SyncEtcd(SyncEtcd.Options(**chosen), context)
    return balancer


@asynccontextmanager
async def running(*balancers):
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            for balancer in balancers:
                await nursery.start(balancer.run)
            yield
            nursery.cancel_scope.cancel()
    assert [] == [problem for one in balancers for problem in one.problems]


def metric(balancer, name):
    (value,) = (one.value for one in balancer.transport.metrics() if one.name == name)
    return value


def full_reads(balancer):
    return metric(balancer, "galelb_etcd_full_reads_total")


def failures(balancer):
    return metric(balancer, "galelb_etcd_failures_total")


async def met(a, b):
    await until(lambda: a.alive(b.name) and b.alive(a.name))


async def test_nothing_changes_while_etcd_is_away_and_all_goes_on_after_it(tmp_path):
    async with running_etcd(tmp_path) as etcd:
        a, b = make(tmp_path, "a", etcd.url), make(tmp_path, "b", etcd.url)
        with capture_logs() as logs:
            async with running(a, b):
                await met(a, b)
                a.write("x", b"1")
                await until(lambda: b.sees("a", {"x": b"1"}))
                etcd.stop()
                await until(
                    lambda: all(metric(one, "galelb_etcd_failures_total") > 5 for one in (a, b))
                )
                assert b.sees("a", {"x": b"1"})
                assert "etcd cannot be used" in b.transport.notes()[0]
                a.write("x", b"2")
                await etcd.start()
                await until(lambda: b.sees("a", {"x": b"2"}) and a.alive("b"))
                await until(lambda: not a.transport.notes() and not b.transport.notes())
    assert 2 <= sum(entry["log_level"] == "error" for entry in logs) <= 4


async def test_a_lost_lease_is_taken_anew_and_records_are_written_again(tmp_path):
    async with running_etcd(tmp_path) as etcd:
        a, b = make(tmp_path, "a", etcd.url), make(tmp_path, "b", etcd.url)
        async with running(a, b):
            await met(a, b)
            a.write("x", b"1")
            await until(lambda: b.sees("a", {"x": b"1"}))
            for lease in (await etcd.ask("lease/leases", {}))["leases"]:
                await etcd.ask("lease/revoke", {"ID": lease["ID"]})
            everything = {"key": "AA==", "range_end": "AA=="}
            await etcd.ask("kv/deleterange", everything)
            await until(lambda: b.has_left("a"))
            await until(lambda: b.sees("a", {"x": b"1"}) and a.alive("b"))


async def test_compaction_while_etcd_cannot_be_reached_leads_to_a_full_reading(tmp_path):
    async with running_etcd(tmp_path) as etcd, trio.open_nursery() as nursery:
        door = Door(etcd.port)
        await nursery.start(door.run)
        a, b = make(tmp_path, "a", door.url), make(tmp_path, "b", etcd.url)
        async with running(a, b):
            await met(a, b)
            before = full_reads(a)
            b.write("gone", b"1")
            await until(lambda: a.sees("b", {"gone": b"1"}))
            door.shut()
            await until(lambda: failures(a) > 0)
            b.write("gone", None)
            b.write("x", b"1")
            await until(lambda: failures(a) > 2)
            revision = (await etcd.ask("kv/range", {"key": "AA=="}))["header"]["revision"]
            await etcd.ask("kv/compaction", {"revision": revision})
            door.open()
            await until(lambda: a.sees("b", {"x": b"1"}))
            assert full_reads(a) > before
        nursery.cancel_scope.cancel()


async def test_an_etcd_that_lost_its_data_is_filled_again_and_nobody_died(tmp_path):
    async with running_etcd(tmp_path) as etcd:
        a, b = make(tmp_path, "a", etcd.url), make(tmp_path, "b", etcd.url)
        async with running(a, b):
            await met(a, b)
            a.write("x", b"1")
            await until(lambda: b.sees("a", {"x": b"1"}))
            before = len(b.told)
            etcd.stop()
            etcd.lose_data()
            await until(lambda: failures(a) > 0 and failures(b) > 0)
            await etcd.start()
            await until(lambda: not a.transport.notes() and not b.transport.notes())
            a.write("x", b"2")
            b.write("y", b"2")
            await until(lambda: b.sees("a", {"x": b"2"}) and a.sees("b", {"y": b"2"}))
            assert [] == [peer for peer in b.told[before:] if not peer.alive or peer.left]


async def test_a_stream_of_changes_that_went_silent_is_found_and_told(tmp_path):
    async with running_etcd(tmp_path) as etcd, trio.open_nursery() as nursery:
        door = Door(etcd.port)
        await nursery.start(door.run)
        a, b = make(tmp_path, "a", door.url), make(tmp_path, "b", etcd.url)
        with capture_logs() as logs:
            async with running(a, b):
                await met(a, b)
                before = full_reads(a)
                door.silence_watches()
                b.write("x", b"1")
                await until(lambda: a.sees("b", {"x": b"1"}))
                assert full_reads(a) > before
        nursery.cancel_scope.cancel()
    assert "changes do not arrive" in str([entry.get("error") for entry in logs])


async def test_two_balancers_of_one_name_are_told(tmp_path):
    async with running_etcd(tmp_path) as etcd:
        a, twin = make(tmp_path, "a", etcd.url), make(tmp_path, "a", etcd.url)
        with capture_logs() as logs:
            async with running(a, twin):
                await until(lambda: "has the name of this one" in str(a.transport.notes()))
                await until(lambda: "has the name of this one" in str(twin.transport.notes()))
    told = [entry for entry in logs if entry["event"] == "two balancers have one name"]
    assert {entry["log_level"] for entry in told} == {"error"}


async def test_a_restart_is_not_taken_for_a_balancer_of_the_same_name(tmp_path):
    async with running_etcd(tmp_path) as etcd:
        a, b = make(tmp_path, "a", etcd.url), make(tmp_path, "b", etcd.url)
        async with running(a, b):
            await met(a, b)
            await b.crash()
            again = make(tmp_path, "b", etcd.url)
            async with running(again):
                again.write("x", b"1")
                await until(lambda: a.sees("b", {"x": b"1"}) and again.alive("a"))
                assert again.transport.notes() == []


async def test_a_goodbye_is_final_though_a_request_is_under_way(tmp_path):
    async with running_etcd(tmp_path) as etcd:
        a, b = make(tmp_path, "a", etcd.url), make(tmp_path, "b", etcd.url)
        async with running(a, b):
            await met(a, b)
            for number in range(2000):
                b.write(str(number), b"1")
            await until(lambda: a.records.get("b"))
            await b.transport.leave()
            await until(lambda: a.has_left("b"))
            everything = {"key": encode(b"galelb/"), "range_end": encode(b"galelb0")}
            kept = [read_change(one).key for one in (await etcd.ask("kv/range", everything))["kvs"]]
            assert {b"galelb/alive/a", b"galelb/member/a"} == set(kept)


async def test_a_reload_leads_to_another_etcd(tmp_path):
    (tmp_path / "other").mkdir()
    async with running_etcd(tmp_path) as etcd, running_etcd(tmp_path / "other") as other:
        a, b = make(tmp_path, "a", etcd.url), make(tmp_path, "b", other.url)
        async with running(a, b):
            await until(lambda: full_reads(a) > 0 and full_reads(b) > 0)
            first = a.transport._gateway
            a.transport.reload(make(tmp_path, "a", other.url).transport.options)
            await met(a, b)
            assert a.transport.notes() == []
            assert first._http.is_closed


@pytest.fixture
def cut_off_handshakes():
    """httpcore leaves the socket of a TLS handshake that is cancelled to the garbage collector."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_balancers_prove_themselves_by_certificates_over_ipv6(tmp_path, cut_off_handshakes):
    good, bad = make_certificates(tmp_path / "good"), make_certificates(tmp_path / "bad")
    files = {"ca_file": good.ca, "cert_file": good.cert, "key_file": good.key}
    async with running_etcd(tmp_path, host="[::1]", certificates=good) as etcd:
        a, b = (make(tmp_path, name, etcd.url, **files) for name in "ab")
        c = make(tmp_path, "c", etcd.url, **files | {"ca_file": bad.ca})
        others = {"cert_file": bad.cert, "key_file": bad.key}
        d = make(tmp_path, "d", etcd.url, **files | others)
        async with running(a, b, c, d):
            await met(a, b)
            await until(lambda: "CERTIFICATE_VERIFY_FAILED" in str(c.transport.notes()))
            await until(lambda: failures(d) > 2 and d.transport.notes())
            assert set(a.peers) == {"b"}


async def test_tokens_that_grow_old_are_renewed_unnoticed(tmp_path):
    files = make_certificates(tmp_path / "signing")
    public = tmp_path / "public.pem"
    command = ["openssl", "pkey", "-in", files.key, "-pubout", "-out", public]
    await trio.run_process(command)
    token = f"jwt,pub-key={public},priv-key={files.key},sign-method=ES256,ttl=2s"
    (tmp_path / "right").write_text("open-sesame\n")
    async with running_etcd(tmp_path, more=["--auth-token", token]) as etcd:
        await demand_passwords(etcd)
        a, b = (make(tmp_path, name, etcd.url, **login(tmp_path / "right")) for name in "ab")
        async with running(a, b):
            await met(a, b)
            await until(lambda: a.transport._gateway.log_ins > 4)
            assert failures(a) == 0


async def demand_passwords(etcd):
    await etcd.ask("auth/user/add", {"name": "root", "password": "open-sesame"})
    await etcd.ask("auth/role/add", {"name": "root"})
    await etcd.ask("auth/user/grant", {"user": "root", "role": "root"})
    await etcd.ask("auth/enable", {})


def login(file):
    return {"username": "root", "password_file": file}


async def test_groups_with_other_prefixes_do_not_meet(tmp_path):
    async with running_etcd(tmp_path) as etcd:
        a, b = (make(tmp_path, name, etcd.url, prefix="one") for name in "ab")
        c, d = (make(tmp_path, name, etcd.url, prefix="one/more") for name in "cd")
        async with running(a, b, c, d):
            await met(a, b)
            await met(c, d)
            assert set(a.peers) == {"b"}
            assert set(c.peers) == {"d"}


async def test_the_next_endpoint_is_tried(tmp_path):
    async with running_etcd(tmp_path) as etcd:
        endpoints = [f"http://127.0.0.1:{free_port()}", etcd.url]
        a, b = (make(tmp_path, name, "", endpoints=endpoints) for name in "ab")
        async with running(a, b):
            await met(a, b)


async def test_a_wrong_password_is_told_without_it(tmp_path):
    (tmp_path / "right").write_text("open-sesame\n")
    (tmp_path / "wrong").write_text("not-a-word-of-it\n")
    async with running_etcd(tmp_path) as etcd:
        await demand_passwords(etcd)
        a, b = (make(tmp_path, name, etcd.url, **login(tmp_path / "right")) for name in "ab")
        c = make(tmp_path, "c", etcd.url, **login(tmp_path / "wrong"))
        with capture_logs() as logs:
            async with running(a, b, c):
                await met(a, b)
                await until(
                    lambda: any("authentication failed" in one for one in c.transport.notes())
                )
                assert "c" not in a.peers
                assert "not-a-word" not in str(c.transport.notes()) + str(logs)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[[[[[",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"ID":[1]}',
        b'HTTP/1.1 500 No\r\nContent-Length: 13\r\n\r\n{"error":"no"}',
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (9 << 20),
        b"",
    ],
)
async def test_nonsense_is_survived(tmp_path, answer):
    async def serve(stream):
        try:
            await stream.receive_some(65536)
            await stream.send_all(answer)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        port = free_port()
        await nursery.start(
            lambda task_status: trio.serve_tcp(
                serve, port, host="127.0.0.1", task_status=task_status
            )
        )
        a = make(tmp_path, "a", f"http://127.0.0.1:{port}")
        async with running(a):
            await until(lambda: metric(a, "galelb_etcd_failures_total") > 2)
            assert a.transport.notes()
            assert not a.peers
        nursery.cancel_scope.cancel()


async def test_another_prefix_needs_a_restart(tmp_path):
    a = make(tmp_path, "a", "http://127.0.0.1:1")
    other = make(tmp_path, "a", "http://127.0.0.1:1", prefix="other").transport.options
    with pytest.raises(GaleError, match="restart"):
        a.transport.reload(other)
