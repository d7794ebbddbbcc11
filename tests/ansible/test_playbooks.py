# SPDX-License-Identifier: Apache-2.0
"""Ansible itself reads the playbooks, and galelb takes what the inventories say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ANSIBLE = Path(__file__).parents[2] / "ansible"
BIN = Path(sys.executable).parent
PLAYBOOKS = sorted(path.name for path in ANSIBLE.glob("*.yml"))

WRITE = """
- hosts: lb:node
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.template:
        src: "{{ playbook_dir }}/roles/{{ kind }}/templates/{{ kind }}.toml.j2"
        dest: "{{ out }}/{{ inventory_hostname }}.toml"
      vars:
        kind: "{{ 'lb' if 'lb' in group_names else 'node' }}"
        lb_config_host: "{{ hostvars[inventory_hostname].lb_config_host | default({}) }}"
        node_config_host: "{{ hostvars[inventory_hostname].node_config_host | default({}) }}"
        ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""


def ansible(command, *arguments, home, **environ):
    environ = os.environ | {
        "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_HOME": str(home), **environ,
    }  # fmt: skip
    done = subprocess.run(
        [BIN / command, *arguments],
        cwd=ANSIBLE, env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_playbook_is_understood(tmp_path):
    ansible("ansible-playbook", "--syntax-check", *PLAYBOOKS, home=tmp_path)


def test_inventories_have_three_balancers_and_three_nodes(tmp_path):
    for inventory in ("example", "vagrant"):
        hosts = f"inventories/{inventory}/hosts.yml"
        found = json.loads(ansible("ansible-inventory", "-i", hosts, "--list", home=tmp_path))

        assert found["lb"]["hosts"] == ["lb-0", "lb-1", "lb-2"]
        assert found["node"]["hosts"] == ["node-0", "node-1", "node-2"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("inventory", "vip", "weight"),
    [("example", "203.0.113.10", 2), ("vagrant", "192.0.2.9", None), ("vagrant", "", None)],
)
def test_what_inventories_say_is_valid(inventory, vip, weight, tmp_path):
    """Cards and addresses that a machine would tell stand in for it."""
    from galelb.config import load_balancer_config
    from galelb.config.node import load_node_config
    from galelb.plugins import Plugins

    key = tmp_path / "group.key"
    key.write_text(f"1 {'a5' * 32}\n")
    key.chmod(0o600)
    out = write_configs(inventory, tmp_path, vip)
    balancers, nodes = sorted(out.glob("lb-*.toml")), sorted(out.glob("node-*.toml"))
    for file in balancers:
        file.write_text(file.read_text().replace("/etc/galelb/group.key", str(key)))
        loaded = load_balancer_config(file, Plugins.discover(environ={}))

        assert 3 == len(loaded.load_balancer_quorum.addresses)
        assert file.stem == loaded.load_balancer_quorum.name
        assert ([vip] if vip else []) == [str(service.vip) for service in loaded.services]
    assert 3 == len(balancers)
    assert [None, None, weight] == [load_node_config(file).node.weight for file in nodes]


def write_configs(inventory, tmp_path, vip):
    out = tmp_path / inventory
    out.mkdir()
    # A copy, since group_vars lie beside the inventory and plugins beside the playbook.
    play = out / "ansible"
    play.mkdir()
    for name in ("roles", "filter_plugins", "inventories"):
        (play / name).symlink_to(ANSIBLE / name)
    (play / "write.yml").write_text(WRITE)
    told = out / "told.yml"
    addresses = {f"lb-{n}": {"vagrant_address": f"192.0.2.{n + 1}"} for n in range(3)}
    told.write_text(json.dumps({"all": {"hosts": addresses}}))
    ansible(
        "ansible-playbook", "-i", f"inventories/{inventory}/hosts.yml", "-i", str(told),
        str(play / "write.yml"), "-e", f"out={out}", home=tmp_path, GALELB_VIP=vip,
    )  # fmt: skip
    return out
