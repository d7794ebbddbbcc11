# SPDX-License-Identifier: Apache-2.0
"""Asks for the balancer's health with grpcio, in a process of its own; prints one JSON object.

Usage: grpcio_health_client.py PORT. Each line of its input lets it go on. The messages are bytes as
grpc.health.v1 defines them, so nothing of ours takes part.
"""

import json
import sys

import grpc

WEB = b"\x0a\x03web"  # HealthCheckRequest { service: "web" }
NONE = b"\x0a\x03dns"


def raw(data):
    return data


def method(channel, name, *, stream=False):
    kind = channel.unary_stream if stream else channel.unary_unary
    return kind(f"/grpc.health.v1.Health/{name}", raw, raw)


def outcome(call):
    try:
        return call().hex()
    except grpc.RpcError as error:
        return error.code().name


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main():
    with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
        check, listed = method(channel, "Check"), method(channel, "List")
        say(
            {
                "balancer": outcome(lambda: check(b"", timeout=20)),
                "web": outcome(lambda: check(WEB, timeout=20)),
                "dns": outcome(lambda: check(NONE, timeout=20)),
                "list": outcome(lambda: listed(b"", timeout=20)),
            }
        )
        watched = method(channel, "Watch", stream=True)(WEB, timeout=30)
        unknown = method(channel, "Watch", stream=True)(NONE, timeout=30)
        for status in watched:
            say([status.hex(), next(unknown).hex()])
            if not sys.stdin.readline().strip():
                break
        watched.cancel()
        unknown.cancel()


main()
