# SPDX-License-Identifier: Apache-2.0
"""What is told of connections that were held."""

from galelb.lab.jobs import Result
from galelb.lab.load_report import report_of


def held(node: str, stall_s: float, error: str | None = None) -> Result:
    return Result(
        kind="held", start=0, end=9, target="t", node=node, size=160, stall_s=stall_s, error=error
    )


def test_what_broke_and_how_long_the_others_stalled() -> None:
    results = [held("n1", 0.1), held("n2", 1.2), held("n1", 0.2), held("", 9.0, "reset")]

    assert {
        "connections": 4,
        "broken": 1,
        "causes": {"reset": 1},
        "messages": 40,
        "median_stall_s": 0.2,
        "longest_stall_s": 1.2,
        "per_node": {"": 1, "n1": 2, "n2": 1},
    } == report_of(results)


def test_where_all_broke_nothing_stalled() -> None:
    report = report_of([held("n1", 9.0, "reset")])

    assert (1, None, None) == (
        report["broken"],
        report["median_stall_s"],
        report["longest_stall_s"],
    )
