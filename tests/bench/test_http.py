# SPDX-License-Identifier: Apache-2.0
"""When the benchmark http takes a result, and when it refuses one."""

import pytest

from bench import http
from bench.machine import RefusedError

CONTENDER = http.Contender(name="it", start=lambda web: web)
FAIR = [(301, 301), (301, 301), (401, 401)]


def check(requests, *, failed=0, served=FAIR, close=True):
    http._check(CONTENDER, requests, failed, served, close=close)


def test_a_result_counts_when_nodes_served_what_the_client_saw():
    check(1000)


def test_requests_may_share_connections_when_they_are_not_closed():
    check(1000, served=[(2, 301), (2, 301), (2, 401)], close=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"failed": 1}, "1 requests failed"),
        ({"requests": 0}, "0 were answered"),
        ({"requests": 1004}, "nodes served 1003 requests, the client saw 1004"),
        ({"requests": 900}, "nodes served 1003 requests, the client saw 900"),
        ({"served": [(501, 501), (501, 501), (1, 1)]}, "2 nodes served, not 3"),
        ({"served": [(2, 301), (2, 301), (2, 401)]}, "nodes saw 6 connections for 1000 requests"),
    ],
)
def test_other_results_are_refused(given, message):
    arguments = {"requests": 1000} | given

    with pytest.raises(RefusedError, match=message):
        check(**arguments)
