# SPDX-License-Identifier: Apache-2.0
"""Code on pages is what it says: configuration loads, JSON parses, Python compiles."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli

from galelb.config import load_balancer_config
from galelb.config.models import BalancerSections
from galelb.config.node import NodeConfig, load_node_config
from galelb.errors import ConfigError
from galelb.plugins import Plugins

from .pages import Block, all_blocks

FILES = "/etc/galelb/"
"""Where pages have their keys and certificates; a folder with real ones stands for it here."""
LB = {
    "private_interface": '[private_interface]\nnet_interface_private = "eth0"\n',
    "public_interface": '[public_interface]\nnet_interface_public = "eth1"\n',
    "services": '[[services]]\nname = "web"\nvip = "192.0.2.10"\nport = 80\n',
}
"""What a part of an lb.toml needs to be a whole."""
NODE = {"load_balancer": '[load_balancer]\naddresses = [{ ip = "192.0.2.1" }]\n'}
FOREIGN = {"build-system", "project", "tool"}
"""Sections of a pyproject.toml."""
LOOKS = re.compile(r"\{|\[\[?[a-z_.]+\]\]?$", re.MULTILINE)
OTHERS = {"sticky_bridge"}
"""Plugins that are not installed here; the example's own tests read their options."""


def kind_of(data: dict[str, Any]) -> str:
    """Which file a block is a part of, by its sections."""
    if FOREIGN & set(data) or set(data.get("plugins", {})) & OTHERS:
        return "other"
    lb, node = set(BalancerSections.model_fields), set(NodeConfig.model_fields)
    return "lb" if set(data) <= lb | {"plugins"} else "node" if set(data) <= node else "unknown"


@pytest.fixture
def files(tmp_path: Path, make_authority: Callable[..., Any]) -> Path:
    """A folder with the files that configurations on pages name."""
    authority = make_authority()
    for name, host in (("lb1", "192.168.1.2"), ("node1", "192.0.2.21")):
        authority.issue(name, host)
        for suffix in ("crt", "key"):
            (tmp_path / f"ca-{name}.{suffix}").rename(tmp_path / f"{name}.{suffix}")
    (tmp_path / "group.key").write_text(f"1 {os.urandom(32).hex()}\n")
    (tmp_path / "token").write_text(f"{os.urandom(24).hex()}\n")
    for name in ("group.key", "token"):
        (tmp_path / name).chmod(0o600)
    return tmp_path


def load(block: Block, folder: Path) -> None:
    """Read a block as galelb does; what a part lacks to be a whole is filled in."""
    text = block.text.replace(FILES, f"{folder}/")
    data = tomli.loads(text)
    kind = kind_of(data)
    assert kind != "unknown", f"{block}: of which file is this? Sections: {', '.join(data)}"
    if kind == "other":
        return
    base = LB if kind == "lb" else NODE
    text += "".join(section for name, section in base.items() if name not in data)
    path = folder / f"{kind}.toml"
    path.write_text(text)
    try:
        if kind == "lb":
            load_balancer_config(path, Plugins.discover(environ={}))
        else:
            load_node_config(path)
    except ConfigError as error:
        pytest.fail(f"{block}: {error}")


@pytest.mark.parametrize("block", all_blocks("toml"), ids=str)
def test_configuration_loads(block: Block, files: Path) -> None:
    load(block, files)


@pytest.mark.parametrize(
    "text",
    ['[forwarding]\nplugni = "l2_bridge"\n', "[plugins.l4_nat]\nmax_flwos = 1\n", "[forwardin]\n"],
)
def test_a_wrong_configuration_is_found(text: str, files: Path) -> None:
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        load(Block(Path(__file__), 1, "toml", text, None), files)


@pytest.mark.parametrize("block", all_blocks("json"), ids=str)
def test_json_parses(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


def test_blocks_that_look_like_json_or_toml_say_so() -> None:
    silent = [str(block) for block in all_blocks("", "text") if LOOKS.match(block.text)]

    assert [] == silent
