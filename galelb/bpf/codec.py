# SPDX-License-Identifier: Apache-2.0
"""Turns keys and leaves of maps into Python values and back, from bcc's description of C types."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from galelb.errors import MapError

__all__ = ["Codec", "make_codec"]

_FORMATS = {
    "_Bool": "?",
    "char": "b",
    "signed char": "b",
    "unsigned char": "B",
    "short": "h",
    "unsigned short": "H",
    "int": "i",
    "unsigned int": "I",
    "long": "q",
    "unsigned long": "Q",
    "long long": "q",
    "unsigned long long": "Q",
}
_BYTES = {"char", "unsigned char"}
_PAD = "__pad_"

Reader = Callable[[Sequence[Any], int], Any]
"""Makes one value of unpacked items, from an index on."""
Writer = Callable[[Any, list[Any]], None]
"""Appends the items to pack for one value."""


class _Shape:
    """One type: its format characters, how many items they make, and the way there and back."""

    def __init__(
        self, form: str, items: int, read: Reader, write: Writer, align: int, zero: Any
    ) -> None:
        self.form = form
        self.items = items
        self.read = read
        self.write = write
        self.align = align
        self.zero = zero

    @property
    def size(self) -> int:
        return struct.calcsize(f"={self.form}")


class Codec:
    """Encodes and decodes values of one C type; ValueError for values that do not fit it."""

    def __init__(self, shape: _Shape) -> None:
        self._shape = shape
        self._struct = struct.Struct(f"={shape.form}")
        self._scalar = shape.form if len(shape.form) == 1 else None
        self.size = self._struct.size

    def encode(self, value: Any) -> bytes:
        """Return the bytes of one value."""
        items: list[Any] = []
        try:
            self._shape.write(value, items)
            return self._struct.pack(*items)
        except (struct.error, TypeError) as error:
            raise ValueError(f"{value!r}: {error}") from None

    def decode(self, data: bytes | memoryview, offset: int = 0) -> Any:
        """Return the value that lies at an offset."""
        return self._shape.read(self._struct.unpack_from(data, offset), 0)

    def encode_all(self, values: Sequence[Any]) -> bytes:
        """Return many values side by side; plain integers go in one step."""
        if self._scalar is None:
            return b"".join(map(self.encode, values))
        try:
            return struct.pack(f"={len(values)}{self._scalar}", *values)
        except struct.error as error:
            raise ValueError(str(error)) from None

    def decode_all(self, data: bytes | memoryview) -> list[Any]:
        """Return the values that lie side by side."""
        if self._scalar is not None:
            return list(struct.unpack(f"={len(data) // self.size}{self._scalar}", data))
        return [self._shape.read(items, 0) for items in self._struct.iter_unpack(data)]


def make_codec(description: Any, name: str) -> Codec:
    """Return the codec of a type; raises MapError naming the map for types beyond us."""
    return Codec(_shape(description, name))


def _shape(description: Any, name: str) -> _Shape:
    if isinstance(description, str):
        return _integer(description, name)
    fields, kind = description[1], description[2] if len(description) > 2 else "struct"
    if kind == "union":
        return _union(fields, name)
    return _structure([(f[0], _field(f, name)) for f in fields], packed=kind == "struct_packed")


def _field(field: Sequence[Any], name: str) -> _Shape:
    """Return the shape of `[name, type]` or `[name, type, [count]]`."""
    if len(field) == 2:
        return _shape(field[1], name)
    extra = field[2]
    if isinstance(extra, str):  # an anonymous struct or union, described in place
        return _shape(field, name)
    if not isinstance(extra, list) or len(extra) != 1:
        raise MapError(name, "describe", f"field {field[0]} is a bit field or a matrix")
    if str(field[0]).startswith(_PAD):
        return _pad(extra[0])
    return _array(field[1], extra[0], name)


def _integer(description: str, name: str) -> _Shape:
    form = _FORMATS.get(description)
    if form is None:
        raise MapError(name, "describe", f"a field of type {description!r} is not supported")

    def read(items: Sequence[Any], at: int) -> Any:
        return items[at]

    def write(value: Any, out: list[Any]) -> None:
        out.append(value)

    return _Shape(form, 1, read, write, struct.calcsize(f"={form}"), 0)


def _pad(count: int) -> _Shape:
    def read(items: Sequence[Any], at: int) -> Any:
        del items, at

    def write(value: Any, out: list[Any]) -> None:
        del value, out

    return _Shape(f"{count}x", 0, read, write, 1, None)


def _blob(count: int, align: int) -> _Shape:
    def read(items: Sequence[Any], at: int) -> Any:
        return items[at]

    def write(value: Any, out: list[Any]) -> None:
        if len(value) != count:
            raise TypeError(f"wants {count} bytes")
        out.append(value)

    return _Shape(f"{count}s", 1, read, write, align, bytes(count))


def _array(element: Any, count: int, name: str) -> _Shape:
    if isinstance(element, str) and element in _BYTES:
        return _blob(count, 1)
    one = _shape(element, name)

    def read(items: Sequence[Any], at: int) -> Any:
        return tuple(one.read(items, at + i * one.items) for i in range(count))

    def read_integers(items: Sequence[Any], at: int) -> Any:
        return tuple(items[at : at + count])

    def write(value: Any, out: list[Any]) -> None:
        if len(value) != count:
            raise TypeError(f"wants {count} elements")
        for part in value:
            one.write(part, out)

    plain = isinstance(element, str)
    form = f"{count}{one.form}" if plain else one.form * count
    zero = (one.zero,) * count
    return _Shape(form, one.items * count, read_integers if plain else read, write, one.align, zero)


def _union(fields: Sequence[Any], name: str) -> _Shape:
    """A union is bytes: only the program knows which member is meant."""
    shapes = [_field(field, name) for field in fields]
    return _blob(max(s.size for s in shapes), max(s.align for s in shapes))


def _structure(fields: Sequence[tuple[str, _Shape]], *, packed: bool) -> _Shape:
    form, offset, align = "", 0, 1
    placed: list[tuple[str, _Shape, int]] = []
    items = 0
    for name, shape in fields:
        gap = 0 if packed else -offset % shape.align
        form += (f"{gap}x" if gap else "") + shape.form
        offset += gap + shape.size
        align = max(align, shape.align)
        if shape.items:
            placed.append((name, shape, items))
        items += shape.items
    tail = 0 if packed else -offset % align
    form += f"{tail}x" if tail else ""
    return _Shape(
        form,
        items,
        _struct_reader(placed),
        _struct_writer(placed),
        1 if packed else align,
        {name: shape.zero for name, shape, _ in placed},
    )


def _struct_reader(placed: Sequence[tuple[str, _Shape, int]]) -> Reader:
    plan = [(name, shape.read, at) for name, shape, at in placed]

    def read(items: Sequence[Any], start: int) -> Any:
        return {name: one(items, start + at) for name, one, at in plan}

    return read


def _struct_writer(placed: Sequence[tuple[str, _Shape, int]]) -> Writer:
    plan = [(name, shape.write, shape.zero) for name, shape, _ in placed]
    names = {name for name, _, _ in plan}

    def write(value: Any, out: list[Any]) -> None:
        if not isinstance(value, Mapping):
            raise TypeError(f"wants a dict with {', '.join(sorted(names))}")
        if not value.keys() <= names:
            unknown = ", ".join(sorted(map(str, value.keys() - names)))
            raise TypeError(f"no field {unknown}; there are {', '.join(sorted(names))}")
        for name, one, zero in plan:
            one(value.get(name, zero), out)

    return write
