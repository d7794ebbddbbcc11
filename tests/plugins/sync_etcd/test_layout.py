# SPDX-License-Identifier: Apache-2.0
"""How members and records lie in etcd."""

from ipaddress import ip_address

import pytest
from galelb_plugins.sync_etcd.layout import Change, Layout, Place, encode, read_change, text_of
from hypothesis import given
from hypothesis import strategies as st

LAYOUT = Layout("group/one")
NAMES = st.text(min_size=1, max_size=15).filter(lambda text: text.encode("utf-8", "ignore"))


@given(NAMES.filter(str.isprintable), st.text(max_size=16).filter(str.isprintable))
def test_keys_are_read_as_they_are_made(name, key):
    assert LAYOUT.split(LAYOUT.member(name)) == ("member", name, "")
    assert LAYOUT.split(LAYOUT.alive(name)) == ("alive", name, "")
    assert LAYOUT.split(LAYOUT.record(name, key)) == ("record", name, key)


def test_no_name_reaches_into_the_records_of_another():
    assert not LAYOUT.record("a/b", "x").startswith(LAYOUT.record("a"))
    assert LAYOUT.member("a/b").count(b"/") == LAYOUT.member("a").count(b"/")


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"group/two/member/a",
        b"group/one",
        b"group/one/member/",
        b"group/one/member/a/b",
        b"group/one/record/a",
        b"group/one/other/a",
        b"group/one/member/\xff",
        b"group/one/member/%ff",
        b"group/one/member/" + b"a" * 64,
    ],
)
def test_foreign_keys_are_refused(key):
    with pytest.raises(ValueError):
        LAYOUT.split(key)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_place_is_read_as_it_is_packed(address):
    place = Place(ip_address(address), 65535, "epoch")
    assert Place.parse(place.pack()) == place


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"address": "192.0.2.1", "port": 1}',
        b'{"address": "192.0.2.1", "port": true, "epoch": ""}',
        b'{"address": "192.0.2.1", "port": 0, "epoch": ""}',
        b'{"address": "192.0.2.1", "port": 65536, "epoch": ""}',
        b'{"address": "somewhere", "port": 1, "epoch": ""}',
        b'{"address": 1, "port": 1, "epoch": ""}',
        b'{"address": "192.0.2.1", "port": 1, "epoch": "' + b"e" * 65 + b'"}',
    ],
)
def test_other_places_are_refused(data):
    with pytest.raises(ValueError):
        Place.parse(data)


def test_changes_are_read():
    entry = {"key": encode(b"k"), "value": encode(b"v")}
    assert read_change(entry) == Change(b"k", b"v")
    assert read_change(entry, deleted=True) == Change(b"k", None)
    assert read_change({"key": encode(b"k")}) == Change(b"k", b"")


@pytest.mark.parametrize("entry", [None, [], {"key": 1}, {"key": "&"}, {"key": "a"}])
def test_other_changes_are_refused(entry):
    with pytest.raises(ValueError):
        read_change(entry)


@given(st.binary())
def test_bytes_are_read_as_they_are_written(data):
    assert text_of(encode(data)) == data
