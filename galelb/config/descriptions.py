# SPDX-License-Identifier: Apache-2.0
"""Tells what the keys of a model mean: the docstring after each attribute.

Pydantic can read them too, but does so for every model that is imported, which a balancer would
wait for at each start (60 ms) and never look at.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise

from pydantic import BaseModel

__all__ = ["descriptions"]


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the description of every field; "" where none is written or the source is gone.

    What `Field(description=...)` says goes before the docstring.
    """
    written: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            written |= _docstrings(base)
    return {
        name: field.description or written.get(name, "")
        for name, field in model.model_fields.items()
    }


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    except (OSError, TypeError, SyntaxError):  # made by a program, or by an interactive user
        return {}
    assert isinstance(tree, ast.ClassDef)
    return {
        attribute.target.id: inspect.cleandoc(after.value.value)
        for attribute, after in pairwise(tree.body)
        if isinstance(attribute, ast.AnnAssign) and isinstance(attribute.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(after.value.value, str)
    }
