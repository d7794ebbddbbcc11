# SPDX-License-Identifier: Apache-2.0
"""`galelb group-key`: a key is made and changed from the command line, and never printed."""

import json

import pytest
from click.testing import CliRunner

from galelb.cli import run
from galelb.commands.group_key import group_key_group
from galelb.group.key_file import read_keys


@pytest.fixture
def path(tmp_path):
    return tmp_path / "group.key"


def galelb(*args):
    result = CliRunner().invoke(group_key_group, [str(arg) for arg in args])
    assert 0 == result.exit_code, result.output
    return result.output


def test_a_key_is_changed_in_three_steps(path):
    said = [galelb("new", path)]
    (old,) = read_keys(path)
    said += [galelb("add", path), galelb("promote", path)]
    new = read_keys(path)[0]
    said.append(galelb("drop", path))

    assert (new,) == read_keys(path)
    assert new.secret != old.secret
    for text in said:
        assert "Next: copy the same file to every balancer" in text
        assert old.secret.hex() not in text
        assert new.secret.hex() not in text
    assert f"key 2  {new.fingerprint}  decrypts" in said[1]
    assert f"key 2  {new.fingerprint}  encrypts" in said[2]


def test_what_is_there_is_shown_by_fingerprint(path):
    galelb("new", path)
    galelb("add", path)
    first, second = read_keys(path)

    shown = json.loads(galelb("show", path, "--json"))["keys"]

    assert [
        {"number": 1, "fingerprint": first.fingerprint, "use": "encrypts"},
        {"number": 2, "fingerprint": second.fingerprint, "use": "decrypts"},
    ] == shown
    assert [f"key 1  {first.fingerprint}  encrypts", f"key 2  {second.fingerprint}  decrypts"] == (
        galelb("show", path).splitlines()
    )


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("new", "is there already"),
        ("promote", "there is one key only: add the next one first"),
        ("drop", "there is one key only: nothing to drop"),
    ],
)
def test_a_step_out_of_order_changes_nothing(path, step, error, capsys):
    galelb("new", path)
    before = path.read_bytes()

    assert 2 == run(["group-key", step, str(path)])

    assert error in capsys.readouterr().err
    assert before == path.read_bytes()
