# SPDX-License-Identifier: Apache-2.0
"""Turns what is wrong with a configuration into lines for people: file:line: key: message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from galelb.config.descriptions import descriptions
from galelb.config.option_schema import nested_model
from galelb.config.redaction import REDACTED, is_secret
from galelb.config.toml_file import TomlFile
from galelb.config.toml_lines import KeyPath
from galelb.errors import ConfigError
from galelb.suggest import nearest

__all__ = [
    "KeyProblemError",
    "Problem",
    "describe_errors",
    "missing_key",
    "raise_problems",
    "show_path",
    "unknown_key",
]

_LONGEST_VALUE = 60


@attrs.frozen
class Problem:
    """One thing that is wrong, at one key."""

    path: KeyPath
    message: str


def raise_problems(file: TomlFile, problems: Sequence[Problem]) -> None:
    """Raise ConfigError with all problems in the order of the file; nothing when there are none."""
    if problems and not file.data:
        problems = [Problem((), "the file is empty"), *problems]
    lines = sorted({(file.line(p.path), show_path(p.path), p.message) for p in problems})
    if lines:
        raise ConfigError(
            [f"{file.path}:{line}: {key}{': ' * bool(key)}{text}" for line, key, text in lines]
        )


def show_path(path: KeyPath) -> str:
    """Return a key path as people write it, for example `services[0].vip`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class KeyProblemError(ValueError):
    """Raised by a validator of a whole section to point at one of its keys."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def describe_errors(
    error: ValidationError, model: type[BaseModel], prefix: KeyPath = ()
) -> list[Problem]:
    """Return pydantic's findings about a section in our words; `prefix` is its path."""
    return [_describe(details, model, prefix) for details in error.errors(include_url=False)]


def _describe(details: ErrorDetails, model: type[BaseModel], prefix: KeyPath) -> Problem:
    path = details["loc"]
    kind = details["type"]
    if kind == "extra_forbidden":
        owner = _owner(model, path[:-1])
        return Problem(
            (*prefix, *path), unknown_key(str(path[-1]), list(owner.model_fields) if owner else [])
        )
    if kind == "missing":
        owner = _owner(model, path[:-1])
        return Problem((*prefix, *path), missing_key(str(path[-1]), owner))
    cause = details.get("ctx", {}).get("error")
    inner = cause.path if isinstance(cause, KeyProblemError) else ()
    path = (*prefix, *path, *inner)
    message = _MESSAGES.get(kind, _other)(details)
    return Problem(path, _with_value(message, details, path))


def _with_value(message: str, details: ErrorDetails, path: KeyPath) -> str:
    """Add what the file says, unless that is a secret or already said."""
    value = details["input"]
    if is_secret(path):
        return message.replace(str(value), REDACTED) if str(value) else message
    if isinstance(value, dict | list | tuple) or details["type"].startswith("too_"):
        return message
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    if text in message:
        return message
    shown = text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."
    hint = nearest(value, _allowed(details)) if isinstance(value, str) else ""
    return f"{message}, got {shown}{hint}"


def _owner(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Return the model of the section at a path."""
    owner: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, str) and owner is not None:
            field = owner.model_fields.get(part)
            owner = nested_model(field.annotation) if field else None
    return owner


def unknown_key(key: str, known: Sequence[str], what: str = "key") -> str:
    """Return the message for a key that is not among the known ones."""
    allowed = f"; allowed: {', '.join(known)}" if known else "; nothing is allowed here"
    return f'unknown {what} "{key[:_LONGEST_VALUE]}"{nearest(key, known)}{allowed}'


def missing_key(key: str, owner: type[BaseModel] | None) -> str:
    """Return the message for a required key or section of `owner`."""
    field = owner.model_fields.get(key) if owner else None
    section = field.annotation if field else None
    if isinstance(section, type) and issubclass(section, BaseModel):
        required = [name for name, inner in section.model_fields.items() if inner.is_required()]
        return f"required but missing: add [{key}] with {', '.join(required)}"
    text = descriptions(owner)[key].strip().rstrip(".") if owner and field else ""
    return f"required but missing{': ' * bool(text)}{text[:1].lower()}{text[1:]}"


def _allowed(details: ErrorDetails) -> list[str]:
    if details["type"] not in {"literal_error", "enum"}:
        return []
    expected = str(details.get("ctx", {}).get("expected", ""))
    return [part.strip().strip("'") for part in expected.replace(" or ", ",").split(",")]


def _says(message: str) -> Callable[[ErrorDetails], str]:
    return lambda details: message.format_map(details.get("ctx", {}))


def _cause(details: ErrorDetails) -> str:
    return str(details.get("ctx", {}).get("error", details["msg"]))


def _other(details: ErrorDetails) -> str:
    return details["msg"][:1].lower() + details["msg"][1:]


_TEXT = _says("must be text in quotes")
_WHOLE = _says("must be a whole number")
_ARRAY = _says("must be an array, such as [ ... ]")
_TABLE = _says("must be a table of keys and values")
_MESSAGES: Mapping[str, Callable[[ErrorDetails], str]] = {
    "value_error": _cause,
    "assertion_error": _cause,
    "literal_error": _says("must be {expected}"),
    "enum": _says("must be {expected}"),
    "string_type": _TEXT,
    "path_type": _TEXT,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "float_type": _says("must be a number"),
    "finite_number": _says("must be a finite number"),
    "bool_type": _says("must be true or false"),
    "tuple_type": _ARRAY,
    "list_type": _ARRAY,
    "set_type": _ARRAY,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "dict_type": _TABLE,
    "greater_than_equal": _says("must be at least {ge}"),
    "greater_than": _says("must be more than {gt}"),
    "less_than_equal": _says("must be at most {le}"),
    "less_than": _says("must be less than {lt}"),
    "too_long": _says("must have at most {max_length} elements"),
    "too_short": _says("must have at least {min_length} elements"),
    "string_too_short": _says("must not be shorter than {min_length} characters"),
    "string_too_long": _says("must not be longer than {max_length} characters"),
    "string_pattern_mismatch": _says("must match {pattern}"),
}
