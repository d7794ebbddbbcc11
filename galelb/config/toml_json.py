# SPDX-License-Identifier: Apache-2.0
"""Hands TOML data to pydantic's strict JSON mode, where text may become addresses and paths."""

from __future__ import annotations

import datetime
import json
from typing import Any, TypeVar

from pydantic import BaseModel

from galelb.config.problems import Problem
from galelb.config.toml_lines import KeyPath

__all__ = ["parse_section", "plain"]

M = TypeVar("M", bound=BaseModel)
_DATES = (datetime.date, datetime.time)


def parse_section(model: type[M], data: Any) -> M:
    """Return the validated section. Raises pydantic's ValidationError with all findings."""
    return model.model_validate_json(json.dumps(data))


def plain(data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the data without dates, which no key takes, and a problem for each of them."""
    problems: list[Problem] = []
    return _plain(data, (), problems), problems


def _plain(value: Any, path: KeyPath, problems: list[Problem]) -> Any:
    if isinstance(value, dict):
        kept = {key: _plain(item, (*path, key), problems) for key, item in value.items()}
        return {key: item for key, item in kept.items() if not isinstance(item, _DATES)}
    if isinstance(value, list):
        return [_plain(item, (*path, index), problems) for index, item in enumerate(value)]
    if isinstance(value, _DATES):
        problems.append(Problem(path, "a date is no value here: write text in quotes"))
        return value if isinstance(path[-1], str) else str(value)
    return value
