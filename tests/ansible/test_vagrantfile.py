# SPDX-License-Identifier: Apache-2.0
"""The Vagrantfile: what it asks Vagrant for, and that Vagrant takes it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).parent / "record.rb"
NAMES = ["lb-0", "lb-1", "lb-2", "node-0", "node-1", "node-2"]


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "id"
    path.write_text("private")
    path.with_suffix(".pub").write_text("ssh-ed25519 AAAA somebody\n")
    return path


def attempt(argv, cwd=ROOT, **environ):
    ours = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8", **environ}
    return subprocess.run(
        argv, cwd=cwd, env=ours, capture_output=True, text=True, timeout=120, check=False
    )


def recorded(key, **environ):
    wants = {"NETWORK_CARD": "enp3s0", "SSH_KEY_PATH": str(key), **environ}
    done = attempt(["ruby", RECORD, ROOT / "Vagrantfile"], **wants)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["config"]["vm"]


def test_its_ruby_is_sound():
    assert "Syntax OK\n" == attempt(["ruby", "-wc", ROOT / "Vagrantfile"]).stdout


def test_it_makes_three_balancers_and_three_nodes_with_their_names(key):
    machines = recorded(key)["define"]

    assert NAMES == [name for name, _ in machines]
    assert NAMES == [machine["vm"]["hostname"] for _, machine in machines]


def test_every_machine_is_bridged_to_the_card_that_the_environment_names(key):
    for _, machine in recorded(key)["define"]:
        [[kind, options]] = machine["vm"]["network"]

        assert kind == "public_network"
        assert {"bridge": "enp3s0", "dev": "enp3s0"} == options


def test_every_machine_gets_avahi_and_the_public_half_of_the_key(key):
    for _, machine in recorded(key)["define"]:
        kind, options = machine["vm"]["provision"][0]

        assert kind == "shell"
        assert ["ssh-ed25519 AAAA somebody"] == options["args"]
        assert "avahi-daemon" in options["inline"]
        assert 0 == attempt(["bash", "-n", "-c", options["inline"]]).returncode


def test_ansible_runs_once_when_all_machines_are_there(key):
    runs = {
        name: options
        for name, machine in recorded(key)["define"]
        for kind, options in machine["vm"]["provision"]
        if kind == "ansible"
    }

    assert ["node-2"] == list(runs)
    assert "all" == runs["node-2"]["limit"]
    for file in ("playbook", "inventory_path", "config_file"):
        assert (ROOT / runs["node-2"][file]).is_file()


def test_a_missing_variable_or_key_is_told(key):
    for environ, missing in (
        ({"SSH_KEY_PATH": str(key)}, "NETWORK_CARD is not set"),
        ({"NETWORK_CARD": "eth0"}, "SSH_KEY_PATH is not set"),
        ({"NETWORK_CARD": "eth0", "SSH_KEY_PATH": "/nowhere"}, "/nowhere.pub does not exist"),
    ):
        done = attempt(["ruby", RECORD, ROOT / "Vagrantfile"], **environ)

        assert done.returncode != 0
        assert missing in done.stderr


def test_vagrant_itself_takes_it(key, tmp_path):
    """Without a provider, since none is on machines that run tests; in a folder of its own."""
    shutil.copy(ROOT / "Vagrantfile", tmp_path)
    (tmp_path / "ansible").symlink_to(ROOT / "ansible")

    done = attempt(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=tmp_path, NETWORK_CARD="eth0", SSH_KEY_PATH=str(key), VAGRANT_HOME=str(tmp_path / "v"),
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Vagrantfile validated successfully." in done.stdout
