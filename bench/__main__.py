# SPDX-License-Identifier: Apache-2.0
"""Run benchmarks by name; all of them without one."""

from __future__ import annotations

import importlib
import json
import signal
import sys

import click

BENCHMARKS = {
    "control": "bench.control",
    "flows": "bench.flowtable",
    "forward": "bench.forward",
    "health": "bench.health",
    "http": "bench.http",
    "packet": "bench.packet",
    "scale": "bench.scale",
    "share": "bench.share",
}
"""Name -> module with `run() -> dict` and `describe(result) -> str`."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, by name.")
def main(names: tuple[str, ...], as_json: bool) -> None:
    """Run benchmarks; each prints what it measured."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is cleaned up
    results = {}
    for name in names or BENCHMARKS:
        module = importlib.import_module(BENCHMARKS[name])
        results[name] = module.run()
        if not as_json:
            click.echo(f"{name}\n{module.describe(results[name])}")
    if as_json:
        json.dump(results, sys.stdout, indent=2)
        click.echo()


if __name__ == "__main__":
    main(prog_name="bench")
