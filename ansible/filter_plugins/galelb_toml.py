# SPDX-License-Identifier: Apache-2.0
"""The filter `galelb_toml`: a dictionary as the TOML that galelb reads.

Sections come in the order of the dictionary, a key whose value is null is left out, so that a host
can take away what its group has set.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class TomlProblemError(ValueError):
    """A value that TOML, or galelb, has no word for."""


class FilterModule:
    """What Ansible looks for in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"galelb_toml": to_toml}


def to_toml(config: Mapping[str, Any]) -> str:
    """Return a dictionary as TOML."""
    if not isinstance(config, Mapping):
        raise TomlProblemError(f"galelb_toml: needs a dictionary, got {type(config).__name__}")
    return "\n".join(_table(config, ())).lstrip("\n") + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table: first its own keys, which would else belong to a later header."""
    for key, value in table.items():
        if value is not None and not _is_section(value):
            yield f"{_key(key)} = {_value(value, (*path, str(key)))}"
    for key, value in table.items():
        inner = (*path, str(key))
        name = ".".join(_key(part) for part in inner)
        if isinstance(value, Mapping):
            yield from ("", f"[{name}]", *_table(value, inner))
        elif _is_section(value):
            for one in value:
                yield from ("", f"[[{name}]]", *_table(one, inner))


def _is_section(value: object) -> bool:
    return isinstance(value, Mapping) or (
        _is_list(value) and len(value) > 0 and all(isinstance(one, Mapping) for one in value)
    )


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _key(key: object) -> str:
    text = str(key)
    return text if _BARE.fullmatch(text) else _string(text)


def _string(text: str) -> str:
    # A JSON string is a TOML one but for DEL, which JSON allows as it is.
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object, path: tuple[str, ...]) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float) and math.isfinite(value):
        return repr(float(value))
    if isinstance(value, Mapping):
        pairs = (f"{_key(k)} = {_value(v, (*path, str(k)))}" for k, v in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if _is_list(value):
        return "[" + ", ".join(_value(one, path) for one in value) + "]"
    where = ".".join(path)
    raise TomlProblemError(f"galelb_toml: {where}: {type(value).__name__} cannot be written")
