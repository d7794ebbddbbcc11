# SPDX-License-Identifier: Apache-2.0
"""A balancer made with grpcio, in a process of its own: prints its port, then each report.

With the argument `original` it answers with the fields that the original has, and with one that
nobody knows.
"""

import json
import sys
from concurrent import futures

import grpc
from google.protobuf import empty_pb2

from galelb.grpc.health_pb2 import ConfigResponse, HealthStatus

ORIGINAL = sys.argv[1:] == ["original"]
UNKNOWN = b"\x9a\x3f\x03abc"  # field 1011, text


def say(*values):
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def get_config(request, context):
    return ConfigResponse(checks_before_routing=3, health_check_timeout=600_000_000)


def take_reports(requests, context):
    for report in requests:
        say("report", report.status, report.name)
        yield HealthStatus(status=report.status, message="seen")
    say("end")


def serialised(message):
    return message.SerializeToString() + UNKNOWN * ORIGINAL


def main():
    handlers = {
        "GetConfig": grpc.unary_unary_rpc_method_handler(
            get_config, empty_pb2.Empty.FromString, serialised
        ),
        "ReportHealthStatus": grpc.stream_stream_rpc_method_handler(
            take_reports, HealthStatus.FromString, serialised
        ),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("LBNodeManager", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say("port", port)
    sys.stdin.read()  # until our parent closes it
    server.stop(0.2).wait()


main()
