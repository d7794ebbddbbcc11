# SPDX-License-Identifier: Apache-2.0
"""Key files: clear errors that hold no secret, one key replaced by another in three steps."""

import os
import stat
from pathlib import Path

import pytest

from galelb.errors import LocalProtocolError
from galelb.group.key_file import (
    Key,
    KeyFileError,
    add_key,
    create_keys,
    drop_key,
    load_ring,
    parse_keys,
    promote_key,
    read_keys,
    write_keys,
)
from galelb.group.keys import KeyRing

ONE, TWO = "1" * 64, "ab" * 32


def file(tmp_path, text, mode=0o600):
    path = tmp_path / "group.key"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_the_first_line_encrypts(tmp_path):
    ring = load_ring(file(tmp_path, f"# group\n\n 7 {ONE}\n2 {TWO.upper()}\n"))

    assert KeyRing({7: bytes.fromhex(ONE), 2: bytes.fromhex(TWO)}, 7) == ring


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "group.key: needs one or two keys, has 0"),
        ("# nothing\n", "group.key: needs one or two keys, has 0"),
        (f"1 {ONE}\n2 {ONE}\n3 {ONE}\n", "group.key: needs one or two keys, has 3"),
        (f"1 {ONE}\n1 {TWO}\n", "group.key: both keys have the number 1"),
        (f"\n256 {ONE}\n", "group.key:2: the number must be from 0 to 255"),
        (f"-1 {ONE}\n", "group.key:1: the number must be from 0 to 255"),
        (f"{ONE} 1\n", "group.key:1: the number must be from 0 to 255"),
        (f"1 {ONE[1:]}\n", "group.key:1: the key must be 64 hex digits"),
        (f"1 {ONE[2:]}\n", "group.key:1: the key must be 64 hex digits, has 62"),
        (f"1 {ONE}00\n", "group.key:1: the key must be 64 hex digits, has 66"),
        (f"1 {'x' * 64}\n", "group.key:1: the key must be 64 hex digits"),
        (f"{ONE}\n", "group.key:1: must be a number, a space and 64 hex digits"),
        (b"\xff\xfe\x00", "group.key:1: must be a number, a space and 64 hex digits"),
        ("1 2 3\n", "group.key:1: must be a number, a space and 64 hex digits"),
        ("#" * 5000, "group.key: is larger than 4096 bytes"),
    ],
)
def test_what_is_no_key_file_is_told_without_its_content(tmp_path, text, error):
    with pytest.raises(KeyFileError) as caught:
        read_keys(file(tmp_path, text))

    assert str(caught.value).endswith(error)
    assert ONE[:60] not in str(caught.value)


def test_a_missing_file_is_told_with_the_way_to_make_it(tmp_path):
    with pytest.raises(KeyFileError, match=r"No such file.*galelb group-key new"):
        read_keys(tmp_path / "group.key")


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_a_file_for_everybody_is_refused(tmp_path, mode):
    with pytest.raises(KeyFileError, match="everybody can read or change this secret: chmod o="):
        read_keys(file(tmp_path, f"1 {ONE}\n", mode))


def test_a_folder_is_no_key_file(tmp_path):
    with pytest.raises(KeyFileError, match="Is a directory"):
        read_keys(tmp_path)


def test_a_pipe_or_device_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(KeyFileError, match="is no regular file"):
            read_keys(path)


def test_what_is_written_is_what_is_read(tmp_path):
    path, keys = tmp_path / "group.key", add_key(create_keys())

    write_keys(path, keys, new=True)

    assert keys == read_keys(path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == list(tmp_path.iterdir())


def test_a_new_file_replaces_none(tmp_path):
    path = file(tmp_path, "keep")

    with pytest.raises(KeyFileError, match="is there already"):
        write_keys(path, create_keys(), new=True)

    assert "keep" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_a_changed_file_keeps_mode_and_owner_and_a_link_to_it(tmp_path):
    path = file(tmp_path, "old", 0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    owner = path.stat().st_uid, path.stat().st_gid

    write_keys(link, create_keys(), new=False)

    assert link.is_symlink()
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)
    assert owner == (path.stat().st_uid, path.stat().st_gid)
    assert 1 == len(read_keys(path))


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(KeyFileError, match="cannot be written: No such file"):
        write_keys(tmp_path / "no" / "group.key", create_keys(), new=True)


def test_three_steps_change_the_key():
    first = create_keys()
    both = add_key(first)
    used = promote_key(both)
    last = drop_key(used)

    assert (1,) == tuple(key.number for key in first)
    assert (first[0], both[1]) == both
    assert (both[1], first[0]) == used
    assert (both[1],) == last
    assert 2 == last[0].number
    assert first[0].secret != last[0].secret


def test_numbers_go_round():
    assert 0 == add_key((Key(255, bytes(32)),))[1].number


@pytest.mark.parametrize(
    ("step", "keys", "error"),
    [(add_key, 2, "two keys already"), (promote_key, 1, "add the next"), (drop_key, 1, "nothing")],
)
def test_steps_come_in_their_order(step, keys, error):
    there = tuple(Key(number, bytes([number]) * 32) for number in range(keys))

    with pytest.raises(KeyFileError, match=error):
        step(there)


def test_keys_are_not_shown():
    key = create_keys()[0]

    assert key.secret.hex() not in repr(key)
    assert "secret" not in repr(key)
    assert key.fingerprint not in key.secret.hex()


def test_a_ring_wants_what_a_file_promises():
    keys = parse_keys(f"1 {ONE}".encode(), "text")

    with pytest.raises(LocalProtocolError):
        KeyRing({key.number: key.secret for key in keys}, 2)
