# SPDX-License-Identifier: Apache-2.0
"""Describes configuration models for people: each key with its type, default and meaning."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from galelb.config.descriptions import descriptions
from galelb.durations import format_duration, is_duration
from galelb.model import IPAddress

__all__ = ["OptionInfo", "describe_model", "nested_model", "value_text"]

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    IPv4Address: "IPv4 address",
    IPv6Address: "IPv6 address",
    IPAddress: "IP address",
}


@attrs.frozen(kw_only=True)
class OptionInfo:
    """One key of a section, in words."""

    name: str
    type: str
    default: str | None
    """As it would be written in TOML; None when the key is required, "" when there is none."""
    description: str

    @property
    def required(self) -> bool:
        """Whether the file must have it."""
        return self.default is None


def describe_model(model: type[BaseModel]) -> tuple[OptionInfo, ...]:
    """Return the keys of a section in the order of the model."""
    fields = model.model_fields
    return tuple(_describe(name, fields[name], text) for name, text in descriptions(model).items())


def nested_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside an annotation such as `tuple[Model, ...]`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := nested_model(part))), None)


def value_text(value: Any, *, duration: bool = False) -> str:
    """Return a value as TOML writes it; an empty string for None."""
    if value is None:
        return ""
    if duration:
        return f'"{format_duration(value)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    if isinstance(value, BaseModel):
        return value_text(value.model_dump(mode="json", exclude_none=True))
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {value_text(v)}" for k, v in value.items()) + " }"
    return _quoted(str(value))


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _describe(name: str, field: FieldInfo, description: str) -> OptionInfo:
    duration = is_duration(field.metadata)
    default = None
    if not field.is_required():
        value = field.get_default(call_default_factory=True, validated_data={})
        default = value_text(value, duration=duration and value is not None)
    return OptionInfo(
        name=name,
        type="duration" if duration else _type_text(field.annotation),
        default=default,
        description=description.replace("\n", " "),
    )


def _type_text(annotation: Any) -> str:
    """Return the type in words; unions and tuples in words of their parts."""
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f'"{part}"' for part in parts)
    if origin is typing.Annotated:
        return "duration" if is_duration(parts[1:]) else _type_text(parts[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_type_text(part) for part in parts if part is not types.NoneType)
    if origin in (tuple, list, Sequence, set, frozenset):
        return f"array of {_type_text(parts[0])}" if parts else "array"
    if nested_model(annotation) is not None:
        return "table"
    return str(getattr(annotation, "__name__", annotation))
