# SPDX-License-Identifier: Apache-2.0
"""Writes the parts of the reference that the code knows; a test checks that they are current.

Run `python docs/generate.py` after changing a hook, a configuration key or a reason. It
replaces what stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`, and writes the
manual pages.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import manpages
from command_list import command_reference
from limits_table import limits
from pydantic import BaseModel

from galelb import abi
from galelb.api.openapi import schemas
from galelb.api.operations import OPERATIONS
from galelb.config import models
from galelb.config import node as node_config
from galelb.config.option_schema import OptionInfo, describe_model, nested_model
from galelb.control.metric_families import FAMILIES
from galelb.hooks import HookSpecs
from galelb.plugins import Plugins

LINE_LENGTH = 100  # the formatter checks Python in Markdown, too
REFERENCE = Path(__file__).parent / "reference"
BLOCK = re.compile(r"(<!-- begin: (\S+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def table(model: type[BaseModel]) -> str:
    """Return the keys of a section as a Markdown table."""
    return option_table(describe_model(model))


def option_table(options: tuple[OptionInfo, ...]) -> str:
    """Return described options as a Markdown table."""
    if not options:
        return "No keys.\n"
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for one in options:
        default = "required" if one.required else f"`{one.default}`" if one.default else "not set"
        cells = (f"`{one.name}`", one.type, default, one.description)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def plugins() -> str:
    """Return the sections of the bundled plugins."""
    found = Plugins.discover(environ={})
    infos = [info for info in found.infos() if info.package == "galelb"]
    parts = [
        f"### [plugins.{info.name}]\n\n{', '.join(info.kinds).capitalize()}. {info.description}\n\n"
        + option_table(info.options)
        + nested_tables(info.name, found.options(info.name))
        for info in infos
    ]
    return "\n".join(parts)


def nested_tables(name: str, model: type[BaseModel]) -> str:
    """Return the keys of a plugin's tables within its section."""
    fields = {key: nested_model(field.annotation) for key, field in model.model_fields.items()}
    return "".join(
        f"\n#### [[plugins.{name}.{key}]]\n\n{table(inner)}"
        for key, inner in fields.items()
        if inner is not None
    )


def hooks() -> str:
    """Return every hook with its signature and its docstring, under the heading of its kind."""
    source = inspect.getsource(HookSpecs)
    parts: list[str] = []
    for match in re.finditer(r"^    # (\w+)$|^    def (galelb_\w+)", source, re.MULTILINE):
        kind, name = match.groups()
        parts.append(f"### {kind.capitalize()}\n" if kind else hook(name))
    return "\n".join(parts)


def hook(name: str) -> str:
    """Return the entry of one hook."""
    function = getattr(HookSpecs, name)
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    given = ", ".join(map(str, parameters))
    typed = f"def {name}({given}) -> {signature.return_annotation}: ...".replace("'", "")
    if len(typed) > LINE_LENGTH:
        typed = typed.replace("(", "(\n    ", 1).replace(") -> ", "\n) -> ", 1)
    heading = f"#### {name}({', '.join(p.name for p in parameters)})"
    return f"{heading}\n\n```python\n{typed}\n```\n\n{inspect.getdoc(function)}\n"


def reasons() -> str:
    """Return the reasons with their numbers and what they mean."""
    rows = ["| number | reason | kind | meaning |", "|---|---|---|---|"]
    rows += [f"| {int(r)} | `{r.name.lower()}` | {r.kind} | {r.meaning} |" for r in abi.Reason]
    return "\n".join(rows) + "\n"


def api_operations() -> str:
    """Return every request of the API with what it answers, and the parameters it takes."""
    rows = ["| request | answer | parameters |", "|---|---|---|"]
    for one in OPERATIONS:
        paths = " or ".join(f"`{one.method} {path}`" for path in (one.path, *one.aliases))
        shape = one.answer.__name__ if one.answer not in (None, dict) else ""
        answer = f" [{shape}](#{shape.lower()})" if shape else f" `{one.media_type}`"
        names = ", ".join(f"`{p.name}`" for p in one.parameters if p.where != "path")
        rows.append(f"| {paths} | {one.text}{answer} | {names or '-'} |")
    return "\n".join(rows) + "\n"


def api_parameters() -> str:
    """Return the parameters of every request that has any."""
    rows = ["| request | parameter | meaning |", "|---|---|---|"]
    for one in OPERATIONS:
        for p in one.parameters:
            if p.where != "path":
                text = f"{p.text} {_bounds(p.schema)}".strip()
                rows.append(f"| `{one.path}` | `{p.name}` | {text} |")
    return "\n".join(rows) + "\n"


def _bounds(schema: dict[str, Any]) -> str:
    found = []
    if "minimum" in schema:
        found.append(f"{schema['minimum']} to {schema['maximum']}")
    elif schema["type"] == "boolean":
        found.append("true or false")
    if "default" in schema:
        found.append(f"default {str(schema['default']).lower()}")
    return f"({', '.join(found)})" if found else ""


def api_objects() -> str:
    """Return every shape of the API's answers with its keys."""
    parts = []
    for name, schema in schemas().items():
        rows = [f"### {name}", "", schema["description"], "", "| key | type | meaning |"]
        rows.append("|---|---|---|")
        for key, of in schema["properties"].items():
            text = of.get("description") or schemas()[_shape(of)]["description"]
            rows.append(f"| `{key}` | {_type(of)} | {text} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _shape(of: dict[str, Any]) -> str:
    return str(of["$ref"]).rpartition("/")[2]


def _type(of: dict[str, Any]) -> str:
    if "$ref" in of:
        return f"[{_shape(of)}](#{_shape(of).lower()})"
    if "anyOf" in of:
        return " or ".join(_type(one) for one in of["anyOf"])
    if "enum" in of:
        return ", ".join(of["enum"])
    if of["type"] == "array":
        return f"list of {_type(of['items'])}"
    if isinstance(of.get("additionalProperties"), dict):
        return f"object of {_type(of['additionalProperties'])}"
    return str(of["type"])


def metrics() -> str:
    """Return the metrics of the core."""
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for one in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in one.labels) or "-"
        rows.append(f"| `{one.name}` | {one.kind} | {labels} | {one.help} |")
    return "\n".join(rows) + "\n"


MAKERS: dict[str, Callable[[], str]] = {
    "commands": command_reference,
    "limits": limits,
    "instance": lambda: table(models.InstanceSection),
    "private_interface": lambda: table(models.PrivateInterfaceSection),
    "public_interface": lambda: table(models.PublicInterfaceSection),
    "node_health": lambda: table(models.NodeHealthSection),
    "load_balancer_quorum": lambda: table(models.QuorumSection),
    "load_balancer_quorum.addresses": lambda: table(models.PeerAddress),
    "forwarding": lambda: table(models.ForwardingSection),
    "announce": lambda: table(models.AnnounceSection),
    "services": lambda: table(models.ServiceSection),
    "nodes": lambda: table(models.NodeSection),
    "plugins": plugins,
    "node.load_balancer": lambda: table(node_config.LoadBalancerSection),
    "node.load_balancer.addresses": lambda: table(node_config.BalancerAddress),
    "node.node": lambda: table(node_config.NodeSettings),
    "node.api": lambda: table(node_config.ApiSection),
    "node.checks": lambda: table(node_config.CheckSection),
    "hooks": hooks,
    "metrics": metrics,
    "api.operations": api_operations,
    "api.parameters": api_parameters,
    "api.objects": api_objects,
    "reasons": reasons,
}


def current(text: str) -> str:
    """Return a page with every block as the code has it now."""
    return BLOCK.sub(lambda block: f"{block[1]}{MAKERS[block[2]]()}{block[3]}", text)


def main() -> None:
    """Rewrite the pages that are not current."""
    for page in sorted(REFERENCE.glob("*.md")):
        text = page.read_text()
        if text != current(text):
            page.write_text(current(text))
            sys.stdout.write(f"{page}: written\n")
    for changed in manpages.write():
        sys.stdout.write(f"{changed}: {'written' if changed.exists() else 'removed'}\n")


if __name__ == "__main__":
    main()
