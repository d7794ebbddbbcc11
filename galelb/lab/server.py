# SPDX-License-Identifier: Apache-2.0
"""The process that stands for a node's application: web server and UDP responder."""

from __future__ import annotations

import click
import trio

from galelb.lab.files import allow_many_files
from galelb.lab.hosts import CLIENTS_PORT, UDP_PORT
from galelb.lab.http_server import HttpServer
from galelb.lab.udp_server import serve_udp

__all__ = ["main", "serve"]


async def serve(name: str, http_port: int, udp_port: int) -> None:
    """Serve on every address, IPv4 and IPv6, until cancelled."""
    async with trio.open_nursery() as nursery:
        for family, address in ((trio.socket.AF_INET, "0.0.0.0"), (trio.socket.AF_INET6, "::")):  # noqa: S104 - a namespace of its own
            sock = trio.socket.socket(family, trio.socket.SOCK_DGRAM)
            if family == trio.socket.AF_INET6:
                sock.setsockopt(trio.socket.IPPROTO_IPV6, trio.socket.IPV6_V6ONLY, 1)
            await sock.bind((address, udp_port))
            nursery.start_soon(serve_udp, name, sock)
        await HttpServer(name).serve(await trio.open_tcp_listeners(http_port))


@click.command()
@click.option("--name", required=True)
@click.option("--http-port", default=CLIENTS_PORT)
@click.option("--udp-port", default=UDP_PORT)
def main(name: str, http_port: int, udp_port: int) -> None:
    """Run the application of the node NAME until killed."""
    allow_many_files()
    trio.run(serve, name, http_port, udp_port)


if __name__ == "__main__":
    main()
