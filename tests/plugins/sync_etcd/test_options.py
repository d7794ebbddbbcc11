# SPDX-License-Identifier: Apache-2.0
"""`[plugins.sync_etcd]`: what is refused, and with which words."""

import pytest
from certificates import make_certificates
from galelb_plugins.sync_etcd.options import EtcdOptions
from pydantic import ValidationError

from galelb.group.key_file import create_keys, write_keys


@pytest.fixture
def good(tmp_path):
    write_keys(tmp_path / "keys", create_keys(), new=True)
    return {"endpoints": ["http://192.0.2.1:2379"], "group_key_file": tmp_path / "keys"}


def refusal(**options):
    with pytest.raises(ValidationError) as caught:
        EtcdOptions(**options)
    return str(caught.value)


@pytest.mark.parametrize(
    "endpoint", ["http://192.0.2.1:2379", "https://[2001:db8::1]:2379/", "http://etcd.example"]
)
def test_endpoints_may_be(good, endpoint):
    chosen = EtcdOptions(**good | {"endpoints": [endpoint]})
    assert chosen.endpoints == (endpoint.rstrip("/"),)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("192.0.2.1:2379", "must be like"),
        ("ftp://192.0.2.1", "must be like"),
        ("http://", "must be like"),
        ("http://192.0.2.1:0", "must be like"),
        ("http://192.0.2.1:65536", "must be like"),
        ("http://[2001:db8::1", "must be like"),
        ("http://name:word@192.0.2.1", "see username and password_file"),
        ("http://192.0.2.1/path", "scheme, host and port only"),
        ("http://192.0.2.1?query", "scheme, host and port only"),
    ],
)
def test_endpoints_may_not_be(good, endpoint, words):
    assert words in refusal(**good | {"endpoints": [endpoint]})


@pytest.mark.parametrize("count", [0, 17])
def test_there_are_1_to_16_endpoints(good, count):
    text = refusal(**good | {"endpoints": ["http://192.0.2.1"] * count})
    assert "1 to 16 addresses of etcd" in text


@pytest.mark.parametrize("prefix", ["", "/", "a\nb", "a" * 129])
def test_prefixes_may_not_be(good, prefix):
    assert "1 to 128 printable characters" in refusal(**good, prefix=prefix)


def test_slashes_around_a_prefix_do_not_matter(good):
    assert EtcdOptions(**good, prefix="/one/two/").prefix == "one/two"


@pytest.mark.parametrize("ttl", ["1s", "61s"])
def test_lease_ttl_has_limits(good, ttl):
    assert "lease_ttl" in refusal(**good, lease_ttl=ttl)


def test_what_needs_each_other(good, tmp_path):
    file = tmp_path / "keys"
    assert "username and password_file need each other" in refusal(**good, username="root")
    assert "username and password_file need each other" in refusal(**good, password_file=file)
    assert "cert_file and key_file need each other" in refusal(**good, cert_file=file)
    assert "cert_file and key_file need each other" in refusal(**good, key_file=file)
    assert "https" in refusal(**good, ca_file=file)
    assert "https" in refusal(**good, cert_file=file, key_file=file)


def test_files_must_be_there(good, tmp_path):
    missing = tmp_path / "missing"
    assert "missing: is no file" in refusal(**good, username="root", password_file=missing)
    assert "missing: is no file" in refusal(**good, ca_file=missing)
    assert "missing" in refusal(**good | {"group_key_file": missing})


def test_certificates_must_fit(good, tmp_path):
    good["endpoints"] = ["https://192.0.2.1:2379"]
    one, other = make_certificates(tmp_path / "one"), make_certificates(tmp_path / "other")
    EtcdOptions(**good, ca_file=one.ca, cert_file=one.cert, key_file=one.key)
    text = refusal(**good, ca_file=tmp_path / "keys")
    assert "keys: has no certificates that can be read" in text
    text = refusal(**good, cert_file=one.cert, key_file=other.key)
    assert "cannot be used: KEY_VALUES_MISMATCH" in text
