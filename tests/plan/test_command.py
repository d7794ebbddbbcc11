# SPDX-License-Identifier: Apache-2.0
"""`galelb plan` as people and programs use it, from file to file and against an API's answers."""

import json
from pathlib import Path

import pytest

from galelb.api.limits import MAX_WEIGHT
from galelb.cli import run
from galelb.commands import plan as command
from galelb.errors import GaleError
from galelb.plan.make import make_plan
from galelb.plan.sides import next_side, running_side

HEAD = """\
[private_interface]
net_interface_private = "eth0"
[public_interface]
net_interface_public = "eth1"
[[services]]
name = "web"
vip = "192.0.2.1"
port = 80
"""


def node(last, more=""):
    return f'[[nodes]]\nip = "10.0.0.{last}"\n{more}'


@pytest.fixture
def files(tmp_path):
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text(HEAD + node(1, 'name = "web-1"\n') + node(2))
    new.write_text(HEAD + node(1, 'name = "web-1"\n') + node(2, "weight = 3\n"))
    return old, new


@pytest.fixture
def plan(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GALELB_API", raising=False)

    def plan(*words):
        code = run(["plan", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return plan


def test_people_read_a_table(plan, files):
    old, new = files

    code, out, _ = plan("--config", new, "--against", old)

    lines = out.splitlines()
    assert code == 0
    assert lines[0] == f"{new} against {old}"
    assert lines[2] == "The attached programs stay; only maps are written."
    assert lines[4:7] == [
        "NODE  ADDRESS   CHANGE   WEIGHT NOW  THEN  NOTE",
        "-     10.0.0.2  changed           1     3  weight: 1 to 3 (by the configuration)",
        "1 node as before",
    ]
    assert lines[8:] == [
        "SERVICE  CHANGE   FORWARDER  NODES NOW  THEN  MOVED  NOTE",
        "web      changed  l4_nat             2     2  25.0%  of new connections; open ones keep"
        " their node",
    ]


def test_programs_read_one_object(plan, files):
    old, new = files

    code, out, _ = plan("--config", new, "--against", old, "--json")

    told = json.loads(out)
    assert code == 0
    assert {key: told[key] for key in ("config", "against", "recompiles", "reload_possible")} == {
        "config": str(new),
        "against": str(old),
        "recompiles": False,
        "reload_possible": True,
    }
    (service,) = told["services"]
    assert (service["change"], service["moves"]) == ("changed", "new_flows")
    assert service["moved"] == pytest.approx(0.25, abs=0.005)


def test_nothing_to_do_is_said(plan, files):
    code, out, _ = plan("--config", files[0], "--against", files[0])

    assert (code, out.splitlines()[-1]) == (0, "It changes nothing.")


def test_an_operators_words_need_no_new_file(plan, files):
    code, out, _ = plan("--against", files[0], "--drain", "web-1", "--weight", "10.0.0.2=5")

    assert code == 0
    assert out.startswith("the same configuration, then weight 10.0.0.2 5, drain web-1 against")
    assert "web-1  10.0.0.1  changed           1     0  drains" in out


def test_the_file_of_the_folder_is_the_new_one(plan, files, tmp_path):
    files[1].rename(tmp_path / "lb.toml")

    code, out, _ = plan("--against", files[0])

    assert (code, out.splitlines()[0]) == (0, f"lb.toml against {files[0]}")


def test_an_invalid_file_is_told_with_all_its_problems(plan, files):
    files[1].write_text(HEAD + node(1, 'weight = "much"\n') + "[nonsense]\n")

    code, out, err = plan("--config", files[1], "--against", files[0])

    assert (code, out) == (2, "")
    assert "new.toml:11: nodes[0].weight" in err
    assert "nonsense" in err


def test_without_a_balancer_it_says_so(plan, files, tmp_path):
    code, out, err = plan("--config", files[1], "--api", f"unix:{tmp_path / 'none.sock'}")

    assert (code, out) == (1, "")
    assert "none.sock" in err


@pytest.mark.parametrize("word", ["web-1", "web-1=", "=3", "web-1=-1", "web-1=1001", "web-1=1.5"])
def test_a_bad_weight_is_bad_usage(plan, files, word):
    code, _, err = plan("--against", files[0], "--weight", word)

    assert code == 2
    assert "NODE=N" in err


def test_an_unknown_node_is_named(plan, files):
    code, _, err = plan("--against", files[0], "--drain", "web-2")

    assert (code, err) == (1, "galelb: no node 'web-2': did you mean web-1?\n")


def test_the_largest_weight_is_that_of_the_api():
    assert command.MAX_WEIGHT == MAX_WEIGHT


def told_node(last, **more):
    """A node as the API tells of it."""
    return {
        "address": f"10.0.0.{last}",
        "name": "",
        "state": "routable",
        "reason": "configured",
        "draining": False,
        "own_weight": 1,
        "operator_weight": None,
        "weight_from": "config",
        "start_share": 100,
        "load_share": 100,
        "static": True,
        "neighbour": "02:00:00:00:00:01",
        "takes_new_flows": True,
        "unroutable_reason": "",
        "health": [],
    } | more


class Api:
    """Answers as a balancer would."""

    def __init__(self, toml, *nodes, digest=""):
        service = {
            "name": "web",
            "id": 7,
            "vip": "192.0.2.1",
            "port": 80,
            "protocol": "tcp",
            "target_port": 80,
            "forwarder": "l4_nat",
            "scheduler": "maglev",
            "vlan": 0,
            "nodes": [],
            "table_digest": digest,
        }
        self._answers = {
            "config": {"path": "/etc/galelb/lb.toml", "toml": toml},
            "services": {"services": [service]},
            "nodes": {"nodes": list(nodes)},
        }

    def get(self, resource):
        return self._answers[resource]


BOTH = HEAD + node(1) + node(2)


class TestAgainstABalancer:
    @pytest.fixture
    def side(self, plugins):
        def side(*nodes, toml=BOTH, digest=""):
            return running_side(Api(toml, *nodes, digest=digest), plugins)

        return side

    def test_what_a_balancer_says_is_what_it_runs(self, side, plugins):
        old = side(told_node(1), told_node(2, operator_weight=4, weight_from="operator"))

        assert [one.record.weight for one in old.nodes] == [1, 4]
        assert old.ids == {"tcp/192.0.2.1/80/0": 7}
        plan = make_plan(old, next_side(old, old.config, None), plugins)
        assert not [one for one in plan.services if one.change != "same"]

    def test_a_node_that_a_forwarder_refuses_is_left_out(self, side, plugins):
        old = side(
            told_node(1), told_node(2, takes_new_flows=False, unroutable_reason="no port left")
        )

        plan = make_plan(old, old, plugins)

        assert [one.nodes_before for one in plan.services] == [1]

    def test_who_reports_and_who_objects_is_seen_in_the_words(self, side):
        words = [
            {"source": "health_grpc", "word": "serving"},
            {"source": "health_probe", "word": "failed"},
        ]

        old = side(told_node(1, health=words, state="down", takes_new_flows=False))

        assert old.nodes[0].reporters == {"health_grpc"}
        assert old.nodes[0].objected

    def test_secrets_are_left_out_and_that_is_said(self, side, plugins):
        hidden = '[plugins.l4_nat]\nmode = "***"\n'

        old = side(told_node(1), toml=HEAD + node(1) + hidden)
        plan = make_plan(old, old, plugins)

        assert "secrets were not compared: plugins.l4_nat.mode" in plan.notes

    def test_what_a_balancer_says_may_be_of_another_version(self, side):
        with pytest.raises(GaleError, match=r"cannot be read here.*nonsense") as caught:
            side(told_node(1), toml=HEAD + "[nonsense]\n")

        assert caught.value.exit_code == 1

    def test_the_real_table_is_compared(self, side, plugins):
        nodes = [told_node(1), told_node(2)]
        strange = side(*nodes, digest="0" * 16)
        empty = side(*nodes, digest="")

        notes = [make_plan(one, one, plugins).notes for one in (strange, empty)]

        assert all("another than the one computed here" in note for (note,) in notes)


def test_the_command_is_in_the_help(capsys):
    assert run(["--help"]) == 0

    assert "plan" in capsys.readouterr().out
    assert Path(command.__file__).is_file()
