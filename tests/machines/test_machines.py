# SPDX-License-Identifier: Apache-2.0
"""The machines of tests are whole, apart from each other and from this one, and leave nothing."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.machines.group import machines
from tests.machines.root import debian_root

pytestmark = pytest.mark.e2e

FOUND_AT = "mount -t cgroup2 cgroup2 /mnt; cd /mnt; ls -d gm*"


@pytest.fixture(scope="module")
def two():
    with machines(["lb-0", "node-0"], networks=2) as found:
        yield found


def test_systemd_runs_as_pid_1_and_has_nothing_to_complain_of(two):
    for machine in two.values():
        assert "running" == machine.run("systemctl", "is-system-running").strip()
        assert "systemd" == machine.run("cat", "/proc/1/comm").strip()


def test_ssh_reaches_a_machine_from_its_network(two):
    assert "node-0" == two["node-0"].ssh("hostname").strip()


def test_a_terminal_can_be_had_over_ssh(two):
    machine = two["node-0"]
    there = ["ssh", "-tt", *machine.ssh_options, f"root@{machine.address}", "tty"]
    done = subprocess.run(two.network.inside(there), capture_output=True, text=True, check=True)

    assert done.stdout.startswith("/dev/pts/")


def test_machines_know_each_other_by_name_on_two_networks(two):
    lb, node = two["lb-0"], two["node-0"]
    listen = "import socket; s=socket.create_server(('', 7)); s.accept()[0].sendall(b'hi')"
    node.run("systemd-run", "--quiet", "--unit=once", "python3", "-c", listen)
    ask = (
        "import socket, time\n"
        "for turn in range(200):\n"
        "    try: print(socket.create_connection(('{}', 7), 5).recv(9)); break\n"
        "    except ConnectionRefusedError: time.sleep(0.05)\n"
    )

    assert "b'hi'" == lb.run("python3", "-c", ask.format("node-0")).strip()
    node.run("systemd-run", "--quiet", "--unit=twice", "python3", "-c", listen)
    assert "b'hi'" == lb.run("python3", "-c", ask.format(node.addresses()[1])).strip()


def test_no_way_leads_out_of_the_networks(two):
    assert "" == two["lb-0"].run("ip", "route", "show", "default")
    links = two["lb-0"].run("ip", "-br", "link").splitlines()
    assert ["lo", "eth0", "eth1"] == [line.split()[0].partition("@")[0] for line in links]
    assert 0 != two["lb-0"].attempt("curl", "-sS", "--max-time", "5", "http://192.0.2.1").returncode


def test_a_machine_changes_settings_of_its_own_network_only(two):
    lb = two["lb-0"]

    lb.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    assert "1" == lb.run("cat", "/proc/sys/net/ipv4/ip_forward").strip()
    assert "0" == two["node-0"].run("cat", "/proc/sys/net/ipv4/ip_forward").strip()
    assert 0 != lb.attempt("sysctl", "-qw", "kernel.printk_ratelimit=5").returncode


def test_a_file_is_copied_in_and_another_machine_does_not_see_it(two, tmp_path):
    local = tmp_path / "file"
    local.write_text("text")

    two["lb-0"].put(local, "/opt/folder/file", mode=0o600)

    assert "600 text" == two["lb-0"].run(
        "sh", "-c", "stat -c '%a ' /opt/folder/file | tr -d '\\n'; cat /opt/folder/file"
    )
    assert not (two["node-0"].root / "opt" / "folder").exists()
    assert not (debian_root() / "opt" / "folder").exists()


def left(prefix):
    """Everything of a run that this machine still has."""
    netns = Path("/run/netns")
    found = [path.name for path in netns.iterdir()] if netns.is_dir() else []
    found += Path("/proc/self/mountinfo").read_text().splitlines()
    found += [path.name for path in Path("/tmp").iterdir()]
    command = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", FOUND_AT]
    found += subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [one for one in found if prefix in one]


@pytest.mark.parametrize("how", ["at the end", "after a failure", "after a shutdown"])
def test_nothing_of_a_machine_is_left(how):
    class Failure(Exception):
        pass

    try:
        with machines(["lb-0"]) as found:
            lb = found["lb-0"]
            prefix, pid = lb.namespace.partition("-")[0], lb.pid
            assert len(left(prefix)) > 3  # else this test looks in the wrong places
            if how == "after a failure":
                raise Failure
            if how == "after a shutdown":
                lb.stop()
    except Failure:
        pass

    assert [] == left(prefix)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_machine_that_cannot_boot_says_why_and_leaves_nothing(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "lib").symlink_to("/nowhere")

    failing = pytest.raises(AssertionError, match="did not boot")
    with failing as failure, machines(["lb-0"], layers=[tmp_path]):
        pass

    assert "not found" in str(failure.value)
