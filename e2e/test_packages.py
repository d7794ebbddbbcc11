# SPDX-License-Identifier: Apache-2.0
"""What the wheel and the sdist hold, and galelb as pipx installs it: from the wheel alone."""

import email
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

# Folders of the checkout, and where the wheel has them.
PACKAGES = {"galelb": "galelb", "plugins": "galelb_plugins", "bpf": "galelb_bpf"}
SHARED = {
    "grafana": "share/galelb/grafana",
    "systemd": "share/galelb/systemd",
    "docs/man": "share/man/man{section}",
}
DEVELOPERS_ONLY = {"galelb/grpc/generate"}
SYSTEM_PYTHON = "/usr/bin/python3"
CONFIG = """\
[private_interface]
net_interface_private = "lo"

[public_interface]
net_interface_public = "lo"

[[services]]
name = "web"
vip = "203.0.113.10"
port = 80
target_port = 8080
"""
WHERE = """
import importlib, json, sys
names = ("galelb", "galelb.lab", "galelb.testing", "galelb_bpf", "galelb_plugins.l4_nat")
print(json.dumps([importlib.import_module(name).__file__ for name in names]))
"""
PLAIN = """
import importlib.util
assert importlib.util.find_spec("bcc") is None, "this environment sees the system's packages"
"""

Command = Callable[..., str]


def installed_as(name: str, data: str) -> str | None:
    """Return where the wheel has a file of the checkout; None for what is not installed."""
    folder, _, rest = name.partition("/")
    if folder in PACKAGES and name not in DEVELOPERS_ONLY:
        return f"{PACKAGES[folder]}/{rest}"
    for source, target in SHARED.items():
        if name.startswith(f"{source}/"):
            below = name.removeprefix(f"{source}/")
            return f"{data}/{target.format(section=below[-1])}/{below}"
    return None


def test_the_wheel_holds_every_file_as_it_is(built) -> None:
    data = "-".join(built.wheel.name.split("-")[:2]) + ".data/data"
    wanted = {installed_as(name, data): (built.source / name).read_bytes() for name in built.files}
    wanted.pop(None)

    with zipfile.ZipFile(built.wheel) as archive:
        packed = {
            name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name
        }

    assert sorted(wanted) == sorted(packed)
    assert wanted == packed


def test_the_sdist_holds_every_file_as_it_is(built) -> None:
    wanted = {name: (built.source / name).read_bytes() for name in built.files}
    made = {"PKG-INFO", "setup.cfg"}

    with tarfile.open(built.sdist) as archive:
        packed = {
            member.name.partition("/")[2]: archive.extractfile(member).read()
            for member in archive.getmembers()
            if member.isfile() and ".egg-info/" not in member.name
        }

    assert sorted([*wanted, *made]) == sorted(packed)
    assert wanted == {name: packed[name] for name in wanted}


def test_the_wheel_tells_what_it_is(built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        told = email.message_from_bytes(archive.read(name))
    required = told.get_all("Requires-Dist")

    assert told["Description-Content-Type"] == "text/markdown"
    assert told.get_payload().startswith("# galelb")
    assert {f"LICENSES/{path.name}" for path in (built.source / "LICENSES").iterdir()} == set(
        told.get_all("License-File")
    )
    # PyPI's bcc is another project.
    assert not [one for one in required if one.startswith("bcc")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("installed")


@pytest.fixture(scope="module")
def environment(built, place: Path, run_outside: Command) -> Path:
    """A virtual environment that sees nothing of the system's, with the wheel in it.

    As where there is no network: from a folder that was filled before.
    """
    run_outside(SYSTEM_PYTHON, "-m", "venv", place / "venv", cwd=place)
    run_outside(place / "venv/bin/python", "-c", PLAIN, cwd=place)
    pip, house = place / "venv/bin/pip", place / "wheelhouse"
    run_outside(pip, "download", "--quiet", "--dest", house, built.wheel, cwd=place)
    offline = ("--no-index", "--find-links", house)
    run_outside(pip, "install", "--quiet", *offline, house / built.wheel.name, cwd=place)
    return place / "venv"


@pytest.fixture(scope="module")
def galelb(environment: Path, place: Path, run_outside: Command) -> Command:
    def command(*words: str, code: int = 0, **variables: str) -> str:
        words = (str(environment / "bin/galelb"), *words)
        return run_outside(*words, cwd=place, code=code, **variables)

    return command


def test_what_is_installed_is_complete_and_alone(environment, place, run_outside) -> None:
    run_outside(environment / "bin/pip", "check", cwd=place)

    files = json.loads(run_outside(environment / "bin/python", "-c", WHERE, cwd=place))

    assert len(files) == 5
    assert [file for file in files if environment not in Path(file).parents] == []


def test_it_knows_its_version_and_its_plugins(built, galelb: Command) -> None:
    told = json.loads(galelb("plugins", "--json"))["plugins"]

    assert f"galelb {built.wheel.name.split('-')[1]}\n" == galelb("--version")
    assert [one["name"] for one in told if one["error"]] == []
    bundled = {name.split("/")[1] for name in built.files if name.startswith("plugins/")}
    assert bundled - {"__init__.py"} <= {one["name"] for one in told}


def test_a_configuration_is_checked(galelb: Command, tmp_path: Path) -> None:
    config = tmp_path / "lb.toml"
    config.write_text(CONFIG)

    assert "# plugin l4_nat: forwarder, from galelb" in galelb("check", "--config", str(config))
    config.write_text(CONFIG.replace("port = 80\n", "port = 0\n"))
    assert f"{config}:10: services[0].port" in galelb("check", "--config", str(config), code=2)


def test_the_demo_of_the_lab_succeeds_and_compiles(galelb: Command, tmp_path: Path) -> None:
    """With nothing compiled before: by the system's bcc, which the environment does not see."""
    cache = tmp_path / "compiled"

    told = galelb("lab", "demo", "--json", "--nodes", "2", CACHE_DIRECTORY=str(cache))

    result, _ = json.JSONDecoder().raw_decode(told[told.index('{"plugin"') :])
    assert result["failed"] == 0
    assert {"node1", "node2"} == set(result["per_node"])
    assert list(cache.glob("programs-*.json"))


@pytest.fixture
def without_bcc(environment: Path, place: Path, run_outside: Command, tmp_path: Path) -> Command:
    """The command where bcc is hidden, and nothing was compiled before."""
    ask = "from galelb.bpf.find_bcc import find_bcc; print(find_bcc().folder)"
    folder = run_outside(environment / "bin/python", "-c", ask, cwd=place).strip()
    # The pins are on a bpffs already, so none is mounted that would outlive this namespace.
    steps = (
        f"mount -t tmpfs none {folder}",
        "mkdir -p run/nobcc/bpf",
        "mount -t bpf none run/nobcc/bpf",
        "ip link set lo up",
        "ip address add 203.0.113.10/32 dev lo",
        'exec "$@"',
    )

    def command(*words: str, code: int) -> str:
        inside = ("unshare", "--mount", "--net", "sh", "-ec", "; ".join(steps), "sh")
        words = (*inside, environment / "bin/galelb", *words)
        nothing = str(tmp_path / "nothing")
        return run_outside(*words, cwd=tmp_path, code=code, CACHE_DIRECTORY=nothing)

    return command


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("run", "--config", "lb.toml"), 3),
        (("lab", "demo", "--json"), 3),
        (("check", "--config", "lb.toml"), 0),
        (("doctor", "--config", "lb.toml"), 1),
    ],
    ids=lambda value: "" if isinstance(value, int) else value[0],
)
def test_without_bcc_commands_say_what_is_missing(without_bcc, tmp_path, words, code) -> None:
    """A configuration is good or bad without a compiler, and the doctor goes on looking."""
    instance = f'[instance]\nname = "nobcc"\nrun_dir = "{tmp_path}/run"\n'
    (tmp_path / "lb.toml").write_text(f"{instance}{CONFIG}")

    told = without_bcc(*words, code=code)

    assert told.count("by bcc, which is not installed") == 1
    assert "apt install python3-bpfcc" in told
    assert "looked in " in told
    assert "Traceback" not in told
