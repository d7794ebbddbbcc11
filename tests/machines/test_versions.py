# SPDX-License-Identifier: Apache-2.0
"""Another version by the playbooks, from a git repository, and back, while requests are sent."""

import re
import subprocess

import pytest

from e2e.checkout import copy_checkout
from e2e.hosts.traffic import ask, traffic
from tests.machines.ansible import NAMES, WEB, Neighbour, main_pid

pytestmark = pytest.mark.e2e

REPOSITORY = "/srv/galelb.git"
RELEASE = re.compile(r"/opt/galelb-versions/([^/]+)/")
LATER = "0.1.0.dev77"
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")


@pytest.fixture
def repository(tmp_path):
    """A repository whose branch `main` is this checkout as another version."""
    source = tmp_path / "source"
    copy_checkout(source)
    project = source / "pyproject.toml"
    lines = project.read_text().splitlines(keepends=True)
    (at,) = (n for n, line in enumerate(lines) if line.startswith("version ="))
    lines[at] = f'version = "{LATER}"\n'
    project.write_text("".join(lines))
    for words in (
        ("init", "--quiet", "--initial-branch=main", "."),
        ("add", "--all"),
        ("commit", "--quiet", "--message=later"),
        ("clone", "--quiet", "--bare", ".", "../galelb.git"),
    ):
        subprocess.run([*GIT, *words], cwd=source, check=True)
    return tmp_path / "galelb.git"


@pytest.mark.timeout(1200)
async def test_another_version_comes_and_goes_without_a_failed_request(deployment, repository):
    client = Neighbour(deployment.found)
    for machine in deployment.found.values():
        machine.put(repository, REPOSITORY)
    await deployment.play("example_servers.yml", "site.yml")
    first = releases(deployment)
    assert {"node-0": 20} == (await ask(client, [WEB], 20)).nodes()

    from_git = {"galelb_wheel": "", "galelb_git_repository": REPOSITORY}
    async with traffic(client, [WEB], kept=20) as sent:
        await deployment.play("site.yml", **from_git)
    assert not sent.failures()
    assert all(one.startswith("git-") for one in releases(deployment).values())
    assert LATER == deployment.found["lb-0"].run("galelb", "--version").split()[-1]
    assert dict.fromkeys(NAMES, 0) == (await deployment.play("site.yml", **from_git)).changed

    async with traffic(client, [WEB], kept=20) as sent:
        await deployment.play("site.yml")
    assert not sent.failures()
    assert sent.kept > 0
    assert first == releases(deployment)


def releases(deployment):
    """What runs on each machine, by the folder that its process has libraries from."""
    found = {}
    for name, machine in deployment.found.items():
        maps = machine.run("cat", f"/proc/{main_pid(machine)}/maps")
        (found[name],) = set(RELEASE.findall(maps))
    return found
