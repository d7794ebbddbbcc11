# SPDX-License-Identifier: Apache-2.0
from typing import Annotated

from pydantic import BaseModel, Field, create_model

from galelb.config.descriptions import descriptions


class Base(BaseModel):
    """Of the class, not of a key."""

    kept: int = 1
    """Said in the base."""
    changed: int = 2
    """Said in the base."""


class Section(Base):
    changed: int = 3
    """Said anew,
    in two lines."""
    field: Annotated[int, Field(description="Said by the field.")] = 4
    """Not said."""
    silent: int = 5

    def method(self) -> None:
        """Of a method."""


def test_docstrings_after_attributes_describe_keys_inherited_ones_too() -> None:
    assert {
        "kept": "Said in the base.",
        "changed": "Said anew,\nin two lines.",
        "field": "Said by the field.",
        "silent": "",
    } == descriptions(Section)


def test_a_model_without_source_has_no_descriptions() -> None:
    assert {"one": ""} == descriptions(create_model("Made", one=(int, 1)))
