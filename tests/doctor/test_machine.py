# SPDX-License-Identifier: Apache-2.0
"""What a machine needs to run programs at all."""

import os
from pathlib import Path

import attrs
import pytest

from galelb.doctor.machine import check_machine, gather_machine


def test_a_good_machine_has_nothing_to_mend(machine, bad):
    assert {} == bad(check_machine(machine))


@pytest.mark.parametrize(
    ("change", "name", "level", "words", "mend"),
    [
        (
            {"missing_capabilities": ("CAP_NET_ADMIN", "CAP_SYS_ADMIN")},
            "capabilities",
            "fail",
            "lacks CAP_NET_ADMIN and CAP_SYS_ADMIN",
            "",
        ),
        (
            {"load_error": "Operation not permitted"},
            "kernel",
            "fail",
            "Linux 6.1.0 takes no BPF programs: Operation not permitted",
            "",
        ),
        ({"jit": "0"}, "bpf jit", "warn", "interprets", "sysctl -w net.core.bpf_jit_enable=1"),
        (
            {"bcc": None, "bcc_missing": "not installed; looked in /lib"},
            "compiler",
            "fail",
            "not installed; looked in /lib",
            "apt install python3-bpfcc",
        ),
        (
            {"compile_error": "no libbcc.so.0"},
            "compiler",
            "fail",
            "bcc 0.26.0 in /lib/bcc cannot compile: no libbcc.so.0",
            "apt install python3-bpfcc",
        ),
        ({"libbpf": None}, "libbpf", "fail", "is missing", "apt install libbpf1"),
        (
            {"bpffs_mounted": False, "bpffs_known": False},
            "bpffs",
            "fail",
            "no bpf file system",
            "",
        ),
    ],
)
def test_what_a_machine_lacks(machine, bad, change, name, level, words, mend):
    found = bad(check_machine(attrs.evolve(machine, **change)))

    assert [name] == list(found)
    assert (level, mend) == (found[name][0], found[name][2])
    assert words in found[name][1]


def test_it_says_which_bcc_compiles(machine):
    (compiler,) = (one for one in check_machine(machine) if one.name == "compiler")

    assert "bcc 0.26.0 in /lib/bcc compiles" == compiler.text


def test_a_bpffs_is_mounted_by_the_balancer_itself(machine, bad):
    assert {} == bad(check_machine(attrs.evolve(machine, bpffs_mounted=False)))


@pytest.mark.bpf
def test_this_machine_is_good(bad):
    """The bpf tier runs only where programs run, so the doctor must be content with it."""
    facts = gather_machine(Path("/nonexistent"))

    assert {} == bad(check_machine(attrs.evolve(facts, jit=None)))
    assert facts.kernel == os.uname().release
    assert facts.libbpf.startswith("1.")
    assert facts.bcc.version
    assert (facts.bcc.folder / "libbcc.py").is_file()
    assert not facts.bpffs_mounted
