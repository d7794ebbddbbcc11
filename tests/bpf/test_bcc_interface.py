# SPDX-License-Identifier: Apache-2.0
"""What the compiler helper uses of bcc is the same in every version that distributions have.

Recorded by reading the source of 0.26, 0.29.1, 0.31 and 0.37, where these methods and the types
of these functions are the same, letter by letter. Whoever uses more looks there, and adds it here.
"""

import ast
import warnings
from pathlib import Path

import pytest

from galelb.bpf import compiler
from galelb.bpf.find_bcc import find_bcc

pytestmark = pytest.mark.bpf

METHODS = {
    "__init__": [
        *("self", "src_file", "hdr_file", "text", "debug", "cflags", "usdt_contexts"),
        *("allow_rlimit", "device", "attach_usdt_ignore_pid"),
    ],
    "load_func": ["self", "func_name", "prog_type", "device", "attach_type"],
    "dump_func": ["self", "func_name"],
}
ATTRIBUTES = {"module"}
FUNCTIONS = {"bpf_table_fd", "bpf_table_key_desc", "bpf_table_leaf_desc"}
"""bcc says what they take and return."""
OWN_TYPES = {"bpf_num_tables", "bpf_table_name"}
"""The helper says it: no version of bcc does."""


def attributes(tree: ast.AST, *owners: str) -> set[str]:
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in owners
    }


def test_the_helper_uses_of_bcc_what_was_compared():
    tree = ast.parse(Path(compiler.__file__).read_text())

    assert {"BPF", "lib"} == attributes(tree, "bcc")
    assert {*METHODS, *ATTRIBUTES} - {"__init__"} == attributes(tree, "self._bpf")
    assert FUNCTIONS | OWN_TYPES == attributes(tree, "self._lib")


def test_the_bcc_of_this_machine_is_as_recorded():
    folder = find_bcc().folder
    with warnings.catch_warnings(action="ignore"):  # of literals that Python came to dislike
        tree = ast.parse((folder / "__init__.py").read_text())
    typed = ast.parse((folder / "libbcc.py").read_text())

    (made,) = (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "BPF")
    methods = {n.name: n for n in made.body if isinstance(n, ast.FunctionDef)}
    found = {name: [one.arg for one in methods[name].args.args] for name in METHODS}
    assert METHODS == found
    stored = (node for node in ast.walk(made) if isinstance(node, ast.Attribute))
    assert {"self.module"} <= {ast.unparse(node) for node in stored}
    for kind in ("restype", "argtypes"):
        names = {
            target.value.attr
            for node in ast.walk(typed)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Attribute) and target.attr == kind
            if isinstance(target.value, ast.Attribute)
        }
        assert names >= FUNCTIONS
        assert names.isdisjoint(OWN_TYPES)
