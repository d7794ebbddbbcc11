# SPDX-License-Identifier: Apache-2.0
"""How findings are shown, and which file the command takes."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from galelb.cli import cli, run
from galelb.doctor import report
from galelb.doctor.findings import fail, ok, warn

FOUND = [
    ok("kernel", "Linux takes programs"),
    warn("bpf jit", "slow", "sysctl -w a=1"),
    fail("vip \x1b[2J", "gone", "ip address add"),
]


def test_text_for_people():
    assert (
        "node by node.toml\n"
        "\n"
        "ok    kernel    Linux takes programs\n"
        "warn  bpf jit   slow\n"
        "                mend: sysctl -w a=1\n"
        "fail  vip ?[2J  gone\n"
        "                mend: ip address add\n"
        "\n"
        "1 problem, 1 warning."
    ) == click.unstyle(report.as_text("node", "node.toml", FOUND))


@pytest.mark.parametrize(
    ("findings", "last"),
    [(FOUND[:1], "All is well."), (FOUND[:2], "Nothing fails, 1 warning.")],
)
def test_the_summary(findings, last):
    assert last == report.as_text("node", "x", findings).splitlines()[-1]


def test_json_for_programs():
    shown = json.loads(json.dumps(report.as_json("balancer", "lb.toml", FOUND[1:])))

    assert ("balancer", "lb.toml", 1, 1) == tuple(
        shown[key] for key in ("role", "config", "failed", "warned")
    )
    assert {
        "name": "bpf jit",
        "result": "warn",
        "text": "slow",
        "mend": "sysctl -w a=1",
    } == shown["checks"][0]


NODE = '[load_balancer]\naddresses = [ { ip = "127.0.0.1", port = 1 } ]\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("galelb.config.toml_file.SYSTEM_FOLDER", tmp_path / "etc")
    return tmp_path


def test_without_any_file_both_names_are_told(folder, capsys):
    assert 2 == run(["doctor"])
    assert "neither lb.toml nor node.toml in" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--node"], ["--config", "node.toml"]])
def test_a_node_is_known_by_its_file(folder, arguments):
    Path("node.toml").write_text(NODE)

    done = CliRunner().invoke(cli, ["doctor", *arguments, "--json"])

    shown = json.loads(done.output)
    assert (1, "node", "node.toml") == (done.exit_code, shown["role"], shown["config"])
    problem = next(one for one in shown["checks"] if one["name"] == "balancer 127.0.0.1:1")
    assert "cannot connect" in problem["text"]


def test_a_file_that_is_wrong_is_a_configuration_error(folder, capsys):
    Path("node.toml").write_text(NODE + "[nodes]\n")

    assert 2 == run(["doctor"])
    assert "node.toml:3: nodes" in capsys.readouterr().err


def test_plugins_are_for_balancers(folder, capsys):
    Path("node.toml").write_text(NODE)

    assert 2 == run(["doctor", "--plugin", "l4_nat"])
    assert "--plugin is for a balancer" in capsys.readouterr().err


def test_a_balancer_takes_root(folder, capsys, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    Path("lb.toml").write_text("")

    assert 3 == run(["doctor"])
    assert "needs root" in capsys.readouterr().err
