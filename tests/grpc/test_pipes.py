# SPDX-License-Identifier: Apache-2.0
"""Bytes over real sockets, with and without TLS: all arrive in order, and ends are told apart."""

import socket

import pytest
import trio
import trio.testing

from galelb.grpc.pipes import SocketPipe, TlsPipe
from galelb.grpc.tls import TlsFiles, client_context, server_context

MUCH = bytes(range(256)) * 20_000  # more than any buffer of the kernel takes at once


def pair():
    """Return both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        two, _ = listener.accept()
    return one, two


@pytest.fixture
def plain():
    one, two = pair()
    with one, two:
        yield SocketPipe(one), SocketPipe(two)


@pytest.fixture
async def tls(make_authority):
    authority = make_authority()
    cert, key = authority.issue("server", "lb.example")
    server = server_context(TlsFiles(cert=cert, key=key, ca=authority.ca))
    cert, key = authority.issue("client")
    client = client_context(TlsFiles(cert=cert, key=key, ca=authority.ca))
    one, two = pair()
    with one, two:
        pipes = TlsPipe(one, client, server_name="lb.example"), TlsPipe(two, server)
        async with trio.open_nursery() as nursery:
            for pipe in pipes:
                nursery.start_soon(pipe.handshake)
        yield pipes


@pytest.fixture(params=["plain", "tls"])
def pipes(request, plain, tls):
    return {"plain": plain, "tls": tls}[request.param]


async def receive(pipe, size):
    got = b""
    while len(got) < size:
        data = await pipe.receive_some(4096)
        assert data
        got += data
    return got


async def test_a_little_leaves_at_once(pipes):
    one, two = pipes

    assert one.write(b"hello")
    assert b"hello" == await two.receive_some(100)


async def test_much_arrives_in_order_though_little_leaves_at_once(pipes):
    one, two = pipes

    at_once = one.write(MUCH)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.drain)
        got = await receive(two, len(MUCH))

    assert not at_once
    assert MUCH == got


async def test_writing_goes_on_while_a_write_is_under_way(pipes):
    one, two = pipes
    one.write(MUCH)
    for number in range(100):
        one.write(b"%03d" % number)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.drain)
        got = await receive(two, len(MUCH) + 300)

    assert b"".join(b"%03d" % number for number in range(100)) == got[-300:]


async def test_both_sides_may_send_much_at_a_time(pipes):
    got = []

    async def swallow(pipe):
        got.append(await receive(pipe, len(MUCH)) == MUCH)

    async with trio.open_nursery() as nursery:
        for pipe in pipes:
            pipe.write(MUCH)
            nursery.start_soon(pipe.drain)
            nursery.start_soon(swallow, pipe)

    assert [True, True] == got


async def test_the_end_of_the_other_side_is_an_empty_answer(pipes):
    one, two = pipes
    one.write(b"bye")
    one.hang_up()

    assert b"bye" == await two.receive_some(100)
    assert b"" == await two.receive_some(100)


async def test_writing_to_one_who_is_gone_is_an_error(pipes):
    one, two = pipes
    await two.aclose()

    async def write_on():
        while True:
            one.write(b"x" * 100_000)
            await one.drain()

    with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
        await write_on()


async def test_after_closing_here_nothing_works(pipes):
    one, _ = pipes
    await one.aclose()
    await one.aclose()

    with pytest.raises(trio.ClosedResourceError):
        one.write(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await one.receive_some(1)


async def test_closing_wakes_whoever_waits(pipes):
    one, _ = pipes
    raised = []

    async def wait():
        try:
            await one.receive_some(1)
        except trio.ClosedResourceError as error:
            raised.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await one.aclose()

    assert 1 == len(raised)


async def test_garbage_within_tls_is_an_error_that_says_so(tls):
    one, two = tls
    one._sock.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)

    with pytest.raises(trio.BrokenResourceError, match=r"decryption|bad record"):
        await two.receive_some(100)


async def test_a_connection_that_is_cut_within_tls_is_an_end(tls):
    one, two = tls
    await one.aclose()

    assert b"" == await two.receive_some(100)
