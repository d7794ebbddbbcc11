# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, messages, and nothing imported that is not needed."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from galelb import cli
from galelb.errors import ConfigError, EnvironmentProblem, GaleError

GOOD = """\
[private_interface]
net_interface_private = "lo"
[public_interface]
net_interface_public = "lo"
[node_health]
sources = []
[[nodes]]
ip = "10.0.0.1"
"""


@pytest.fixture
def fail(monkeypatch):
    """Make `galelb check` raise what the test wants."""

    def arrange(error):
        def command():
            raise error

        fake = click.Command("check", callback=command)
        monkeypatch.setattr(cli, "_import", lambda target: fake)

    return arrange


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "lb.toml"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_exists_under_its_name_and_has_help(name, capsys):
    module, _, attribute = cli.COMMANDS[name][0].partition(":")

    command = getattr(importlib.import_module(module), attribute)

    assert name == command.name
    assert 0 == cli.run([name, "--help"])
    assert "Usage: galelb" in capsys.readouterr().out


def test_help_lists_all_commands_and_imports_nothing_heavy():
    code = (
        "import sys, galelb.cli\n"
        "galelb.cli.run(['--help'])\n"
        "heavy = {'pydantic', 'trio', 'pyroute2', 'bcc', 'rich', 'pluggy', 'structlog', 'tomli'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "heavy: []" in done.stdout
    assert set(cli.COMMANDS) <= {line.split()[0] for line in done.stdout.splitlines() if line}


def test_a_misspelt_command_is_a_usage_error_with_the_nearest_name(capsys):
    assert 2 == cli.run(["statsu"])
    assert 'No such command "statsu". Did you mean "status"?' in capsys.readouterr().err


@pytest.mark.parametrize("args", [["check", "--bogus"], ["--bogus"], ["drain"]])
def test_bad_usage_exits_with_2(args, capsys):
    assert 2 == cli.run(args)
    assert "Usage: galelb" in capsys.readouterr().err


def test_the_version_is_shown(capsys):
    assert 0 == cli.run(["--version"])
    assert capsys.readouterr().out.startswith("galelb ")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (GaleError("it broke"), 1, "galelb: it broke\n"),
        (ConfigError(["a.toml:1: x", "a.toml:2: y"]), 2, "a.toml:1: x\na.toml:2: y\n"),
        (EnvironmentProblem("no root"), 3, "galelb: no root\n"),
        (ExceptionGroup("", [ExceptionGroup("", [EnvironmentProblem("no")])]), 3, "galelb: no\n"),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("", [KeyboardInterrupt(), GaleError("x")]), 130, ""),
    ],
)
def test_errors_are_messages_and_exit_codes_without_a_traceback(fail, capsys, error, code, text):
    fail(error)

    assert code == cli.run(["check"])
    assert text == capsys.readouterr().err.lstrip("\n")  # click ends the line of a ^C


def test_a_bug_of_ours_keeps_its_traceback(fail):
    fail(ExceptionGroup("", [GaleError("x"), ZeroDivisionError()]))

    with pytest.raises(ExceptionGroup):
        cli.run(["check"])


def test_debug_shows_the_traceback(fail, monkeypatch):
    fail(GaleError("x"))

    with pytest.raises(GaleError):
        cli.run(["--debug", "check"])
    monkeypatch.setenv("GALELB_DEBUG", "1")
    with pytest.raises(GaleError):
        cli.run(["check"])


def test_commands_of_plugins_are_added_and_cannot_replace_ours(monkeypatch, capsys):
    class Fake:
        @staticmethod
        def discover():
            return Fake()

        def commands(self):
            return [
                click.Command("hello", callback=lambda: click.echo("hi"), help="Greet."),
                click.Command("check", callback=lambda: click.echo("mine")),
            ]

    monkeypatch.setattr("galelb.plugins.Plugins", Fake)
    monkeypatch.setattr("galelb.plugins.loading.has_foreign_plugins", lambda: True)

    assert 0 == cli.run(["hello"])
    assert "hi\n" == capsys.readouterr().out
    assert 0 == cli.run(["--help"])
    assert "Greet." in capsys.readouterr().out
    assert 0 == cli.run(["check", "--help"])
    assert "Validate a configuration" in capsys.readouterr().out


def test_check_prints_the_effective_configuration_and_its_plugins(config, capsys):
    assert 0 == cli.run(["check", "--config", str(config)])

    out = capsys.readouterr().out
    assert f"# {config}: valid" in out
    assert "# plugin l4_nat: forwarder, from galelb" in out
    assert "checks_before_routing = 3" in out
    assert "[plugins.l4_nat]" in out


def test_check_prints_all_errors_and_exits_with_2(config, capsys):
    config.write_text(GOOD + 'wieght = 1\n[forwarding]\nxdp_mode = "x"\n')

    assert 2 == cli.run(["check", "--config", str(config)])
    out, err = capsys.readouterr()
    assert "" == out
    assert [":9: nodes[0].wieght", ":11: forwarding.xdp_mode"] == [
        line.removeprefix(str(config)).rpartition(": ")[0].split(": ")[0]
        + ": "
        + line.removeprefix(str(config)).split(": ")[1]
        for line in err.splitlines()
    ]


def test_an_interface_this_machine_lacks_is_a_warning_or_with_strict_an_error(config, capsys):
    config.write_text(GOOD.replace('"lo"', '"nope0"'))

    assert 0 == cli.run(["check", "--config", str(config)])
    assert "warning: this machine has no interface nope0" in capsys.readouterr().err
    assert 2 == cli.run(["check", "--strict", "--config", str(config)])
    assert "this machine has no interface nope0" in capsys.readouterr().err


def test_check_takes_a_plugin_that_overrides_the_file(config, capsys):
    assert 0 == cli.run(["check", "--config", str(config), "--plugin", "health_grpc"])
    assert 'sources = ["health_grpc"]' in capsys.readouterr().out
    assert 2 == cli.run(["check", "--config", str(config), "--plugin", "l4_nta"])
    assert '(did you mean "l4_nat"?)' in capsys.readouterr().err


def test_check_reads_a_node_configuration(tmp_path, capsys):
    path = tmp_path / "node.toml"
    path.write_text('[load_balancer]\naddresses = [ { ip = "10.0.0.1" } ]\n')

    assert 0 == cli.run(["check", "--node", "--config", str(path)])
    assert 'addresses = [{ ip = "10.0.0.1", port = 7070 }]' in capsys.readouterr().out


def test_plugins_are_shown_to_people_and_programs(capsys):
    assert 0 == cli.run(["plugins"])
    assert "l4_nat  forwarder" in capsys.readouterr().out
    assert 0 == cli.run(["plugins", "--json"])
    shown = {one["name"]: one for one in json.loads(capsys.readouterr().out)["plugins"]}
    assert ["forwarder"] == shown["l4_nat"]["kinds"]
    assert "mode" in [option["name"] for option in shown["l4_nat"]["options"]]


@pytest.mark.parametrize("page", ["README.md", "docs/reference/commands.md"])
@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_is_in_the_documentation(page, command):
    text = (Path(__file__).parents[1] / page).read_text()

    assert re.search(rf"(galelb |\| |`){command}\b", text)
