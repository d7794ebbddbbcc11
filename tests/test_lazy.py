# SPDX-License-Identifier: Apache-2.0
import importlib
import subprocess
import sys

import pytest

from galelb.lazy import hidden


@pytest.mark.parametrize("package", ["galelb.config", "galelb.plugins"])
def test_every_name_of_a_lazy_package_is_there(package):
    module = importlib.import_module(package)

    for name in module.__all__:
        assert name == getattr(module, name).__name__.rpartition(".")[2]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("galelb.client, galelb.commands.status", {"pydantic", "pluggy", "trio", "pyroute2"}),
        ("galelb.node.command, galelb.node.remote", {"pydantic", "pluggy", "trio", "pyroute2"}),
        ("galelb.commands.top, galelb.top.feed, galelb.top.view", {"pydantic", "pluggy", "trio"}),
        ("galelb.config.node", {"pluggy", "pyroute2", "rich"}),
        ("galelb.commands.run, galelb.balancer", {"bcc", "hypercorn", "rich"}),
        ("galelb.plugins.loading", {"pydantic", "pluggy", "trio", "structlog"}),
    ],
)
def test_what_starts_often_or_stays_small_imports_nothing_heavy(modules, heavy):
    code = f"import sys, {modules}\nprint(sorted({heavy!r} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]\n" == done.stdout


def test_a_hidden_package_is_not_there_to_import_until_the_block_ends():
    with hidden("wave"), pytest.raises(ImportError):
        import wave

    import wave

    assert wave is sys.modules["wave"]


def test_what_was_imported_already_cannot_be_hidden():
    with hidden("json"):
        import json

    assert json is sys.modules["json"]
