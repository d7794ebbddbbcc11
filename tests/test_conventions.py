# SPDX-License-Identifier: Apache-2.0
"""What the code promises about itself: imports, licences, documentation, tests, sizes."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli

from galelb.abi import Reason
from galelb.hooks import HookSpecs
from galelb.plugins import Plugins
from galelb.plugins.verify import hook_arguments, hook_names

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "galelb").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
VALUES = {"galelb.abi", "galelb.errors", "galelb.flowshare", "galelb.model"}
SANS_IO = {
    "galelb.control.identity",
    "galelb.control.planning",
    "galelb.group.decisions",
    "galelb.group.doors",
    "galelb.group.joining",
    "galelb.group.neighbour_packets",
    "galelb.group.ownership",
    "galelb.group.peers",
    "galelb.group.quorum",
    "galelb.group.reader",
    "galelb.group.share_messages",
    "galelb.group.share_outbox",
    "galelb.health",
    "galelb.group.state",
    "galelb.group.words",
    "galelb.health.agreed",
    "galelb.health.deadlines",
    "galelb.health.machine",
    "galelb.health.registry",
    "galelb.health.room",
    "galelb.health.snapshot",
    "galelb.health.voices",
    "galelb.packing",
    "galelb.resolve.backoff",
    "galelb.resolve.next_hops",
    "galelb.services",
    "galelb.tables.values",
    "galelb_plugins.sync_etcd.layout",
    *(
        f"galelb_plugins.sync_gossip.{module}"
        for module in (
            *("dissemination", "knowledge", "ledger", "members", "messages", "probing"),
            *("records", "refusals", "replay", "suspicion", "swim", "timing", "wire"),
        )
    ),
}
# What a module without input and output has no use for; everything else of the standard
# library is fine.
IO = {"asyncio", "http", "multiprocessing", "os", "select", "selectors", "signal", "socket"}
IO |= {"socketserver", "ssl", "subprocess", "threading", "time", "urllib"}
PURE_PARTS = {
    ("galelb.packing", "socket"),  # byte order
    ("galelb_plugins.sync_etcd.layout", "urllib.parse.quote"),
    ("galelb_plugins.sync_etcd.layout", "urllib.parse.unquote"),
}
LIBRARIES = {
    "bcc": {"galelb.bpf.compiler"},
    "pyroute2": {"galelb.netlink"},
    "pluggy": {"galelb.hooks", "galelb.plugins"},
    "asyncio": set(),
    "galelb_plugins": set(),
}
PRIVATE = (
    "galelb.balancer",
    "galelb.bpf",
    "galelb.control",
    "galelb.datapath",
    "galelb.netlink",
    "galelb.resolve",
)
SOURCES = ("ansible", "galelb", "plugins", "bpf", "tests", "e2e", "bench", "examples", "docs")
SUFFIXES = {".py", ".pyi", ".h", ".c", ".proto", ".toml", ".sh", ".yml", ".yaml"}
APACHE = "SPDX-License-Identifier: Apache-2.0"
DUAL = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
MOST_LINES = 400


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "plugins":
        parts[0] = "galelb_plugins"
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source(name: str) -> Path:
    """Return the file of a module or package."""
    path = ROOT / name.replace("galelb_plugins", "plugins").replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(path: Path, *, at_run_time: bool = False) -> Iterator[str]:
    """Yield what a file imports, as full names; with `at_run_time` without TYPE_CHECKING blocks."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if at_run_time and isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name: str, modules: set[str] | tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def ident(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def test_values_import_only_the_standard_library_and_attrs():
    for name in VALUES:
        for imported in imports(source(name)):
            top = imported.partition(".")[0]
            good = top in sys.stdlib_module_names | {"attrs"} or inside(imported, VALUES)
            assert good, f"{name} imports {imported}"


def test_sans_io_modules_do_no_input_and_output():
    for name in SANS_IO:
        for imported in imports(source(name), at_run_time=True):
            top = imported.partition(".")[0]
            good = top in (sys.stdlib_module_names | {"attrs"}) - IO
            good = good or (name, imported) in PURE_PARTS
            assert good or inside(imported, VALUES | SANS_IO), f"{name} imports {imported}"


def test_what_decides_does_not_know_how_the_kernel_is_reached():
    """The data path uses what decides, never the other way round."""
    above = ("galelb.balancer", "galelb.bpf", "galelb.datapath")
    for name in ("config", "control", "health", "plugins", "resolve", "tables"):
        for path in sorted((ROOT / "galelb" / name).glob("*.py")):
            found = [one for one in imports(path, at_run_time=True) if inside(one, above)]
            assert [] == found, f"{path} imports {found}"


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=ident)
def test_libraries_are_imported_only_where_they_belong(path):
    name = module_name(path)
    for imported in imports(path):
        library = imported.partition(".")[0]
        if library in LIBRARIES and not name.startswith("galelb_plugins."):
            assert inside(name, LIBRARIES[library]), f"{name} imports {imported}"


@pytest.mark.parametrize("path", PLUGINS, ids=ident)
def test_plugins_have_no_private_door_into_the_core(path):
    own = ".".join(module_name(path).split(".")[:2])
    for imported in imports(path):
        top = imported.partition(".")[0]
        assert top not in set(LIBRARIES) - {"galelb_plugins"}, f"{path}: {imported}"
        assert not inside(imported, PRIVATE), f"{path} imports {imported}"
        assert top != "galelb_plugins" or inside(imported, (own,)), f"{path}: {imported}"


def sources() -> Iterator[Path]:
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            hidden = any(part.startswith(".") or part == "build" for part in path.parts[-4:])
            generated = "_pb2" in path.name or "__pycache__" in path.parts
            if path.suffix in SUFFIXES and not hidden and not generated:
                yield path
    yield from (ROOT / "pyproject.toml", ROOT / "dev", ROOT / ".ci" / "run")


def test_every_source_file_names_its_licence():
    missing = []
    for path in sources():
        wanted = DUAL if path.suffix in {".h", ".c"} else APACHE
        if wanted not in "\n".join(path.read_text().splitlines()[:2]):
            missing.append(f"{path.relative_to(ROOT)}: {wanted}")

    assert [] == missing


def test_every_licence_is_there():
    for name in ("Apache-2.0", "GPL-2.0-only", "BSD-2-Clause"):
        assert (ROOT / "LICENSES" / f"{name}.txt").is_file()


@pytest.mark.parametrize("hook", hook_names())
def test_every_hook_is_documented_with_its_signature(hook):
    heading = f"#### {hook}({', '.join(hook_arguments(hook))})\n"

    assert heading in (ROOT / "docs" / "reference" / "hooks.md").read_text()
    assert getattr(HookSpecs, hook).__doc__


@pytest.mark.parametrize("hook", hook_names())
def test_every_hook_has_a_test(hook):
    text = (ROOT / "tests" / "test_hooks.py").read_text()

    assert f"def test_{hook}(" in text or f'("{hook}", "' in text


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_documented(reason):
    row = f"| {int(reason)} | `{reason.name.lower()}` | "

    assert row in (ROOT / "docs" / "reference" / "reasons.md").read_text()


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "reference").glob("*.md")), ids=ident)
def test_generated_parts_of_the_reference_are_current(page, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import generate

    assert page.read_text() == generate.current(page.read_text()), "run: python docs/generate.py"


def test_every_option_of_a_bundled_plugin_has_a_description():
    for info in Plugins.discover(environ={}).infos():
        if info.package == "galelb":
            assert [] == [option.name for option in info.options if not option.description]


def test_bundled_plugins_add_no_commands():
    """Help does not load bundled plugins, so a command of theirs would be missing there."""
    assert [] == Plugins.discover(environ={"GALELB_LOAD_PLUGINS": "l4_nat,health_grpc"}).commands()


def test_every_package_is_installed_and_every_bundled_plugin_registered():
    project = tomli.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["setuptools"]["packages"])
    entries = project["project"]["entry-points"]["galelb.plugins"]

    found = {module_name(path) for path in [*CORE, *PLUGINS] if path.name == "__init__.py"}

    assert found <= packages
    bundled = {name for name in found if re.fullmatch(r"galelb_plugins\.\w+", name)}
    assert bundled == set(entries.values())


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=ident)
def test_files_are_short_and_finished(path):
    text = path.read_text()

    assert "_pb2" in path.name or len(text.splitlines()) <= MOST_LINES
    assert not re.search(r"\bTODO\b|\bFIXME\b|NotImplementedError", text)
