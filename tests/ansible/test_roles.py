# SPDX-License-Identifier: Apache-2.0
"""What the roles promise: variables that are declared and documented, packages that fit."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "ansible" / "roles").iterdir() if path.is_dir())
PAGE = ROOT / "docs" / "how-to" / "deploy-with-ansible.md"


def options(role):
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    return specs["argument_specs"]["main"]["options"]


def defaults(role):
    return yaml.safe_load((role / "defaults" / "main.yml").read_text())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_variable_has_a_description_and_a_default_or_is_required(role):
    declared = options(role)

    assert all(option["description"] for option in declared.values())
    optional = {name for name, option in declared.items() if not option.get("required")}
    assert optional == set(defaults(role))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_variable_is_documented(role):
    page = PAGE.read_text()

    assert [] == [name for name in options(role) if f"| `{name}` |" not in page]


def test_the_packages_are_those_of_dev():
    found = re.search(r"^APT_PACKAGES=\(([^)]*)\)", (ROOT / "dev").read_text(), re.MULTILINE)
    role = ROOT / "ansible" / "roles" / "dependencies"

    assert sorted(found[1].split()) == sorted(defaults(role)["dependencies_packages"])


def test_tasks_that_write_secrets_are_never_logged():
    for file in sorted((ROOT / "ansible").rglob("tasks/*.yml")):
        for task in yaml.safe_load(file.read_text()):
            text = str(task.get("ansible.builtin.copy", {}).get("content", ""))
            if "key" in text or "item.content" in text:
                assert task.get("no_log") is True, f"{file}: {task['name']}"
