# SPDX-License-Identifier: Apache-2.0
"""A node of the original, in a process of its own: knows only the service as it was first written.

Usage: original_node.py ADDRESS:PORT. Takes one JSON list per line from standard input and answers
each with one line of JSON:

    ["config"]                   GetConfig
    ["open"]                     a stream of reports
    ["report", STATUS, MESSAGE]  one report, answered with [service, status, message]
    ["strange", HEX]             one report that ends with bytes of fields unknown to all
    ["close"]                    end the stream
"""

import json
import queue
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2, message_factory

STRING, UINT32, INT64 = 9, 13, 3
MESSAGES = {
    "HealthStatus": [("service", 1, STRING), ("status", 2, UINT32), ("message", 3, STRING)],
    "ConfigResponse": [
        ("checks_before_routing", 1, UINT32),
        ("health_check_timeout", 2, INT64),
        ("black_list_after_fails", 3, INT64),
        ("black_list_expiry", 4, INT64),
    ],
}


def messages():
    """Return the classes of MESSAGES, made without any generated code."""
    file = descriptor_pb2.FileDescriptorProto(name="original.proto", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            message.field.add(name=field, number=number, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in MESSAGES]


HealthStatus, ConfigResponse = messages()


class Node:
    """One connection, and at most one stream of reports."""

    def __init__(self, target):
        options = [("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(target, options=options)
        self._reports = None
        self._answers = None

    def config(self):
        method = self._channel.unary_unary(
            "/LBNodeManager/GetConfig",
            request_serializer=empty_pb2.Empty.SerializeToString,
            response_deserializer=ConfigResponse.FromString,
        )
        answer = method(empty_pb2.Empty(), timeout=30)
        return [getattr(answer, name) for name, _, _ in MESSAGES["ConfigResponse"]]

    def open(self):
        self._reports = queue.SimpleQueue()
        method = self._channel.stream_stream(
            "/LBNodeManager/ReportHealthStatus",
            request_serializer=lambda data: data,
            response_deserializer=HealthStatus.FromString,
        )
        self._answers = method(iter(self._reports.get, None))
        return "opened"

    def report(self, status, message=""):
        return self._send(HealthStatus(service="web", status=status, message=message))

    def strange(self, more):
        return self._send(HealthStatus(service="web"), bytes.fromhex(more))

    def close(self):
        self._reports.put(None)
        return sum(1 for _ in self._answers)

    def _send(self, report, more=b""):
        self._reports.put(report.SerializeToString() + more)
        answer = next(self._answers)
        return [answer.service, answer.status, answer.message]


def main():
    node = Node(sys.argv[1])
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        sys.stdout.write(json.dumps(getattr(node, name)(*arguments)) + "\n")
        sys.stdout.flush()


main()
