# SPDX-License-Identifier: Apache-2.0
"""Makes one translation unit of C parts and names a pin for every map by its shape."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from galelb.bpf.cexpr import ExpressionError, evaluate
from galelb.bpf.preprocess import Line, Preprocessor, blank_comments
from galelb.bpf.shapes import Shapes
from galelb.errors import CompileError

__all__ = ["Composition", "Part", "compose", "digest"]

_MAP = re.compile(r"^\s*GALE_MAP\s*\((.*)\)\s*;?\s*$")
_NAME = re.compile(r"^[A-Za-z_]\w*$")
_ARGUMENTS = 6
_BCC_TYPES = {
    "array": "array",
    "percpu_array": "percpu_array",
    "hash": "hash",
    "percpu_hash": "percpu_hash",
    "lru_hash": "lru_hash",
    "lru_percpu_hash": "lru_percpu_hash",
    "lpm_trie": "lpm_trie",
    "ringbuf": "ringbuf",
    "prog_array": "prog",
}
_KERNEL_MACROS = {
    "BPF_F_NO_PREALLOC": "1",
    "BPF_F_NO_COMMON_LRU": "2",
    "BPF_F_RDONLY_PROG": "128",
    "BPF_F_WRONLY_PROG": "256",
    "BPF_F_MMAPABLE": "1024",
}
# bcc's own BPF_RINGBUF_OUTPUT cannot carry the type of its records.
_RINGBUF = (
    "struct {name}_table_t {{ int key; {leaf} leaf; int (*ringbuf_output)(void *, u64, u64);"
    " void *(*ringbuf_reserve)(u64); void (*ringbuf_discard)(void *, u64);"
    " void (*ringbuf_submit)(void *, u64); u32 max_entries; }};"
    ' __attribute__((section("maps/ringbuf")))'
    " struct {name}_table_t {name} = {{ .max_entries = {entries} }};"
)
# The maps that bcc makes die with the compiler; how large they are is its choice.
_TABLE = 'BPF_F_TABLE("{type}", {key}, {leaf}, {name}, GALE_ENTRIES({entries}), {flags});'


@attrs.frozen
class Part:
    """One C file: the name that diagnostics shall show, and its text."""

    name: str
    text: str


@attrs.frozen(kw_only=True)
class Composition:
    """A whole translation unit, the pins and sizes of its maps and the macros compiled in.

    `digest` names this very text, which says nothing of the folder of the pins; pins of
    programs carry it.
    """

    text: str
    active: str = attrs.field(repr=False)
    """What clang sees of it: no comments, nothing that is switched off."""
    digest: str
    maps: Mapping[str, Path]
    entries: Mapping[str, int]
    program_arrays: frozenset[str]
    defines: Mapping[str, int | str]


@attrs.frozen(kw_only=True)
class _MapLine:
    """One GALE_MAP line, its numbers evaluated."""

    line: Line
    type: str
    key: str
    leaf: str
    name: str
    entries: int
    flags: int


def digest(*texts: str) -> str:
    """Return 12 hexadecimal digits of SHA-256 over texts and their lengths."""
    state = hashlib.sha256()
    for text in texts:
        data = text.encode()
        state.update(f"{len(data)}:".encode() + data)
    return state.hexdigest()[:12]


def compose(
    parts: Sequence[Part],
    defines: Mapping[str, int | str],
    pin_dir: Path,
    salt: str = "",
    layouts: Mapping[str, str] | None = None,
) -> Composition:
    """Join parts into one text and rewrite its GALE_MAP lines to bcc's tables.

    A pin's name holds a hash of the map's type, key, leaf, size and flags, so a changed shape
    gets a new map. For a prog_array the hash covers the whole text and `salt` as well (pass as
    salt what else makes programs incompatible, for example fragment support). `layouts` says for
    maps by name what else entries are read by: another text is another map. Raises CompileError
    naming file and line.
    """
    _check(parts, pin_dir)
    preprocessor = Preprocessor({n: str(v) for n, v in (_KERNEL_MACROS | dict(defines)).items()})
    lines = [line for part in parts for line in preprocessor.lines(part.name, part.text)]
    shapes = Shapes((line.text for line in lines), preprocessor.macros)
    maps = _find_maps(lines, preprocessor.macros)
    head = _render_defines(defines)
    generation = digest(salt, head, *(part.name + part.text for part in parts))
    more = {m.name: (layouts or {}).get(m.name, "") for m in maps}
    more |= {m.name: generation for m in maps if m.type == "prog_array"}
    pins = {m.name: pin_dir / f"{m.name}-{_shape(m, shapes, more[m.name])}" for m in maps}
    rewrites = {(m.line.part, m.line.number): _render_map(m) for m in maps}
    body = "".join(f'#line 1 "{p.name}"\n{_rewrite(p, rewrites)}\n' for p in parts)
    own = digest(head + body, *(pin.name for pin in pins.values()))
    sizes = {m.name: m.entries for m in maps}
    return Composition(
        text=head + body,
        active="\n".join(line.text for line in lines),
        digest=own,
        maps=pins,
        entries=sizes,
        program_arrays=frozenset(m.name for m in maps if m.type == "prog_array"),
        defines=dict(defines),
    )


def _check(parts: Sequence[Part], pin_dir: Path) -> None:
    names = [part.name for part in parts]
    if len(set(names)) != len(names):
        raise CompileError(f"a part is listed twice: {', '.join(sorted(names))}")
    for text in [str(pin_dir), *names]:
        if not text.isprintable() or '"' in text or "\\" in text:
            raise CompileError(f"{text!r} cannot stand in C text: use a plain path or name")


def _render_defines(defines: Mapping[str, int | str]) -> str:
    lines = ["#define BPF_LICENSE Dual BSD/GPL"]
    for name, value in defines.items():
        text = str(value).strip().replace("\n", " \\\n")
        lines.append(f"#define {name} {text}".rstrip())
    return "\n".join(lines) + "\n"


def _find_maps(lines: Sequence[Line], macros: Mapping[str, str]) -> list[_MapLine]:
    found: dict[str, _MapLine] = {}
    for line in lines:
        if "GALE_MAP" not in line.text:
            continue
        one = _parse(line, macros)
        if one.name in found:
            first = found[one.name].line
            raise _problem(line, f"map {one.name} is there already: {first.part}:{first.number}")
        found[one.name] = one
    return list(found.values())


def _parse(line: Line, macros: Mapping[str, str]) -> _MapLine:
    match = _MAP.match(line.text)
    arguments = [a.strip() for a in match.group(1).split(",")] if match else []
    if len(arguments) != _ARGUMENTS:
        raise _problem(line, "write GALE_MAP(type, key, leaf, name, entries, flags) on one line")
    kind, key, leaf, name, entries, flags = arguments
    kind = kind.strip('"')
    if kind not in _BCC_TYPES:
        raise _problem(line, f"unknown map type {kind!r}; known: {', '.join(_BCC_TYPES)}")
    if not _NAME.match(name):
        raise _problem(line, f"{name!r} is no name for a map")
    try:
        sizes = evaluate(entries, macros), evaluate(flags, macros)
    except ExpressionError as error:
        raise _problem(line, f"map {name}: {error}") from None
    if sizes[0] < 1:
        raise _problem(line, f"map {name}: {sizes[0]} entries")
    return _MapLine(
        line=line, type=kind, key=key, leaf=leaf, name=name, entries=sizes[0], flags=sizes[1]
    )


def _problem(line: Line, message: str) -> CompileError:
    return CompileError(f"{line.part}:{line.number}: {message}")


def _shape(one: _MapLine, shapes: Shapes, salt: str) -> str:
    numbers = f"{one.entries} {one.flags}"
    return digest(one.type, shapes.of(one.key), shapes.of(one.leaf), numbers, salt)


def _render_map(one: _MapLine) -> str:
    form = _RINGBUF if one.type == "ringbuf" else _TABLE
    return form.format(
        type=_BCC_TYPES[one.type],
        key=one.key,
        leaf=one.leaf,
        name=one.name,
        entries=one.entries,
        flags=one.flags,
    )


def _rewrite(part: Part, rewrites: Mapping[tuple[str, int], str]) -> str:
    """Return the part's text with its map lines replaced; diagnostics show the old numbers."""
    lines = part.text.split("\n")
    plain = blank_comments(part.text).split("\n")
    out: list[str] = []
    for number, (line, bare) in enumerate(zip(lines, plain, strict=True), start=1):
        if (part.name, number) in rewrites:
            start, end = bare.index("GALE_MAP"), len(bare.rstrip())
            line = line[:start] + rewrites[part.name, number] + line[end:]
        out.append(line)
        if bare.rstrip() == "{":
            # bcc adds lines of its own up to a function's brace: count from here again.
            out.append(f'#line {number + 1} "{part.name}"')
    return "\n".join(out)
