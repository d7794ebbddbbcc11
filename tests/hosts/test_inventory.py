# SPDX-License-Identifier: Apache-2.0
"""What the scenarios make of an Ansible inventory, and how they enter its machines."""

import shlex
from pathlib import Path

import pytest

from e2e.hosts.inventory import Place, inventory_from, read_inventory
from e2e.hosts.model import HostsError
from e2e.hosts.ssh import LocalClient, Ssh, SshClient, inventory_hosts

YAML = """
all:
  vars:
    ansible_host: "{{ inventory_hostname }}.local"
    ansible_user: admin
    ansible_ssh_private_key_file: "{{ lookup('ansible.builtin.env', 'KEY') }}"
  children:
    lb:
      children:
        first:
          hosts: { lb-0: { ansible_port: 2222 } }
        second:
          hosts: { lb-1: { ansible_host: 192.0.2.7, ansible_user: root } }
    node:
      hosts: { node-0: { ansible_ssh_common_args: "-o ProxyJump='door man'" } }
"""


def listed(**variables: object) -> dict[str, object]:
    """Return what ansible-inventory prints of one balancer with these variables, and a node."""
    return {
        "_meta": {"hostvars": {"lb-0": variables}},
        "lb": {"hosts": ["lb-0"]},
        "node": {"hosts": ["node-0"]},
    }


def test_an_inventory_is_read_as_ansible_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "/keys/one")
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / "home"))
    file = tmp_path / "hosts.yml"
    file.write_text(YAML)

    found = read_inventory([file])

    assert found.balancers == (
        Place(name="lb-0", host="lb-0.local", user="admin", port=2222, key_file="/keys/one"),
        Place(name="lb-1", host="192.0.2.7", user="root", key_file="/keys/one"),
    )
    assert [one.options for one in found.nodes] == [("-o", "ProxyJump=door man")]
    assert found.client is None


def test_a_machine_without_variables_is_reached_by_its_name() -> None:
    assert inventory_from(listed(), {}).balancers == (Place(name="lb-0", host="lb-0"),)


def test_a_host_of_group_client_sends_the_requests(tmp_path: Path) -> None:
    found = inventory_from(listed() | {"client": {"hosts": ["far"]}}, {})
    with inventory_hosts(found) as hosts:
        assert isinstance(hosts.client, SshClient)
        assert "far" == hosts.client.name
    with inventory_hosts(inventory_from(listed(), {})) as hosts:
        assert isinstance(hosts.client, LocalClient)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lb": {}}, "no host in group 'lb'"),
        ({"node": {"hosts": []}}, "no host in group 'node'"),
        ({"client": {"hosts": ["a", "b"]}}, "more than one host in group 'client'"),
    ],
)
def test_groups_that_scenarios_cannot_use_are_told(change: dict[str, object], words: str) -> None:
    with pytest.raises(HostsError, match=words):
        inventory_from(listed() | change, {})


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ lookup('file', 'x') }}", r"lb-0: ansible_host: lookup\('file'\) is not known here"),
        ("{{ nobody }}", "lb-0: ansible_host: .*'nobody' is undefined"),
    ],
)
def test_a_template_that_cannot_be_told_names_host_and_variable(template: str, words: str) -> None:
    with pytest.raises(HostsError, match=words):
        inventory_from(listed(ansible_host=template), {})


def test_an_inventory_that_is_not_there_is_told() -> None:
    with pytest.raises(HostsError, match="nowhere: no such inventory"):
        read_inventory([Path("nowhere")])


def test_commands_arrive_word_by_word_and_as_root(tmp_path: Path) -> None:
    place = Place(name="lb-0", host="192.0.2.7", user="admin", port=2222, key_file="/k")
    *words, command = Ssh(place, tmp_path).command("echo", "a b", "$HOME")

    assert ["sudo", "-n", "--", "echo", "a b", "$HOME"] == shlex.split(command)
    assert ["--", "192.0.2.7"] == words[-2:]
    assert {"-l", "admin", "-p", "2222", "-i", "/k"} < set(words)
    root = Ssh(Place(name="lb-0", host="lb-0", user="root"), tmp_path)
    assert "id -u" == root.command("id", "-u")[-1]
