# SPDX-License-Identifier: Apache-2.0
"""A node made with grpcio, in a process of its own: prints one JSON object about a scenario.

Usage: grpcio_client.py PORT SCENARIO
"""

import itertools
import json
import sys
import threading

import grpc
from google.protobuf import empty_pb2

from galelb.grpc.health_pb2 import ConfigResponse, HealthStatus

REPORT = "/LBNodeManager/ReportHealthStatus"


def report_method(channel):
    return channel.stream_stream(
        REPORT,
        request_serializer=HealthStatus.SerializeToString,
        response_deserializer=HealthStatus.FromString,
    )


def raw_method(channel, path=REPORT):
    return channel.stream_stream(
        path, request_serializer=lambda data: data, response_deserializer=lambda data: data
    )


def code_of(call):
    try:
        for _ in call:
            pass
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def config(channel):
    method = channel.unary_unary(
        "/LBNodeManager/GetConfig",
        request_serializer=empty_pb2.Empty.SerializeToString,
        response_deserializer=ConfigResponse.FromString,
    )
    answer = method(empty_pb2.Empty())
    return {
        "checks_before_routing": answer.checks_before_routing,
        "health_check_timeout": answer.health_check_timeout,
        "black_list_after_fails": answer.black_list_after_fails,
        "black_list_expiry": answer.black_list_expiry,
    }


def reports(channel):
    statuses = [(0, ""), (0, ""), (0, ""), (1, "disk full"), (2, "bye")]
    call = report_method(channel)(
        HealthStatus(service="web", status=status, message=message) for status, message in statuses
    )
    answers = [[answer.service, answer.status, answer.message] for answer in call]
    return {"answers": answers, "code": call.code().name}


def pipelined(channel):
    call = report_method(channel)(itertools.repeat(HealthStatus(), 150))
    return {"answers": sum(1 for _ in call), "code": call.code().name}


def many_streams(channel):
    calls = []
    done = threading.Event()
    for _ in range(50):

        def messages():
            yield HealthStatus()
            done.wait(20)

        calls.append(report_method(channel)(messages()))
    firsts = [next(call).state for call in calls]
    done.set()
    return {"answers": len(firsts), "codes": sorted({code_of(call) for call in calls})}


def errors(channel):
    done = threading.Event()

    def silence():
        done.wait(20)
        yield from ()

    found = {
        "unknown": code_of(raw_method(channel, "/LBNodeManager/Nothing")(iter([b""]))),
        "not a message": code_of(raw_method(channel)(iter([b"\xff\xff\xff"]))),
        "bad status": code_of(report_method(channel)(iter([HealthStatus(status=9)]))),
        "too long": code_of(report_method(channel)(iter([HealthStatus(message="x" * 70_000)]))),
        "compressed": code_of(
            report_method(channel)(
                iter([HealthStatus(message="x" * 1000)]), compression=grpc.Compression.Gzip
            )
        ),
        "deadline": code_of(report_method(channel)(silence(), timeout=0.3)),
    }
    done.set()
    return found


def cancel(channel):
    done = threading.Event()

    def one():
        yield HealthStatus()
        done.wait(20)

    call = report_method(channel)(one())
    state = next(call).state
    call.cancel()
    code = code_of(call)
    done.set()
    return {"state": state, "code": code}


def stay(channel):
    """Report once, say so, then stay until the server or a signal ends it."""
    done = threading.Event()

    def one():
        yield HealthStatus()
        done.wait(60)

    call = report_method(channel)(one())
    say({"state": next(call).state})
    code = code_of(call)
    done.set()
    return {"code": code}


def say(result):
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def main():
    port, scenario = int(sys.argv[1]), sys.argv[2]
    options = [("grpc.keepalive_time_ms", 1000), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        say(globals()[scenario](channel))


main()
