# SPDX-License-Identifier: Apache-2.0
"""Validates lb.toml piece by piece, so that one bad value does not hide the other problems."""

from __future__ import annotations

from typing import Any, TypeVar, cast, get_origin

import attrs
from pydantic import BaseModel, ValidationError

from galelb.config.models import (
    BalancerSections,
    ForwardingSection,
    NodeSection,
    PrivateInterfaceSection,
    PublicInterfaceSection,
    QuorumSection,
    ServiceSection,
)
from galelb.config.option_schema import nested_model
from galelb.config.problems import Problem, describe_errors, missing_key, unknown_key
from galelb.config.toml_json import parse_section
from galelb.config.toml_lines import KeyPath

__all__ = ["Draft", "draft_sections", "parse_partly"]

M = TypeVar("M", bound=BaseModel)


@attrs.define
class Draft:
    """What of a file is usable: valid sections, valid array elements by their index, problems."""

    data: dict[str, Any]
    problems: list[Problem] = attrs.Factory(list)
    sections: dict[str, BaseModel] = attrs.Factory(dict)
    elements: dict[str, dict[int, BaseModel]] = attrs.Factory(dict)

    def add(self, message: str, *path: str | int) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, message))

    def ok(self, *path: str | int) -> bool:
        """Return whether nothing is wrong at or below a path."""
        return all(problem.path[: len(path)] != path for problem in self.problems)

    @property
    def services(self) -> dict[int, ServiceSection]:
        """Usable services."""
        return cast("dict[int, ServiceSection]", self.elements.get("services", {}))

    @property
    def nodes(self) -> dict[int, NodeSection]:
        """Usable static nodes."""
        return cast("dict[int, NodeSection]", self.elements.get("nodes", {}))

    @property
    def forwarding(self) -> ForwardingSection:
        """The forwarding section, with defaults for what is wrong in it."""
        section = self.sections.get("forwarding", ForwardingSection())
        return cast("ForwardingSection", section)

    @property
    def quorum(self) -> QuorumSection:
        """The quorum section, with defaults for what is wrong in it."""
        section = self.sections.get("load_balancer_quorum", QuorumSection())
        return cast("QuorumSection", section)

    @property
    def private_interface(self) -> PrivateInterfaceSection | None:
        """The private interface, if it is usable."""
        return cast("PrivateInterfaceSection | None", self.sections.get("private_interface"))

    @property
    def public_interface(self) -> PublicInterfaceSection | None:
        """The public interface, if it is usable."""
        return cast("PublicInterfaceSection | None", self.sections.get("public_interface"))


def draft_sections(data: dict[str, Any]) -> Draft:
    """Return what of the sections is usable; `[plugins]` is left to others."""
    draft = Draft(data)
    fields = BalancerSections.model_fields
    for name in data:
        if name not in fields and name != "plugins":
            what = "section" if isinstance(data[name], dict | list) else "key"
            draft.add(unknown_key(name, [*fields, "plugins"], what), name)
    for name, field in fields.items():
        model = nested_model(field.annotation)
        if model is not None and get_origin(field.annotation) is tuple:
            draft.elements[name] = _elements(draft, name, model)
        elif model is not None:
            _section(draft, name, model, required=field.is_required())
    return draft


def _section(draft: Draft, name: str, model: type[BaseModel], *, required: bool) -> None:
    if name not in draft.data and required:
        draft.add(missing_key(name, BalancerSections), name)
        return
    section = parse_partly(draft, model, draft.data.get(name, {}), (name,))
    if section is not None:
        draft.sections[name] = section


def _elements(draft: Draft, name: str, model: type[BaseModel]) -> dict[int, BaseModel]:
    items = draft.data.get(name, [])
    if not isinstance(items, list):
        draft.add(f"must be an array of tables: write [[{name}]]", name)
        return {}
    parsed = {
        index: parse_partly(draft, model, item, (name, index)) for index, item in enumerate(items)
    }
    return {index: element for index, element in parsed.items() if element is not None}


def parse_partly(draft: Draft, model: type[M], data: Any, prefix: KeyPath) -> M | None:
    """Return the section without its bad keys; None if it cannot do without them."""
    try:
        return parse_section(model, data)
    except ValidationError as error:
        draft.problems.extend(describe_errors(error, model, prefix))
        bad = {str(details["loc"][0]) for details in error.errors() if details["loc"]}
    if not bad or not isinstance(data, dict):
        return None
    try:
        return parse_section(model, {key: data[key] for key in data if key not in bad})
    except ValidationError:
        return None
