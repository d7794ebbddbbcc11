# SPDX-License-Identifier: Apache-2.0
import os
import secrets

import pytest

from galelb.datapath.claims import claim, claimed, is_claimed
from galelb.errors import GaleError


@pytest.fixture
def name():
    return f"gale{secrets.token_hex(4)}"


def test_a_second_balancer_on_an_interface_is_refused_and_told_who_has_it(name):
    with (
        claimed([name]),
        pytest.raises(GaleError, match=rf"{name} .*pid {os.getpid()}"),
        claimed(["another0", name]),
    ):
        pass


def test_other_interfaces_are_free(name):
    with claimed([f"{name}a"]), claimed([f"{name}b"]):
        pass


def test_a_claim_ends_with_its_block(name):
    with claimed([name]):
        pass

    with claim(name) as taken:
        assert taken is None


def test_a_refused_claim_gives_back_what_it_had(name):
    with claimed([f"{name}b"]), pytest.raises(GaleError), claimed([f"{name}a", f"{name}b"]):
        pass

    with claim(f"{name}a") as taken:
        assert taken is None


def test_who_only_looks_takes_nothing(name):
    assert not is_claimed(name)
    with claimed([name]):
        assert all(is_claimed(name) for _ in range(20))
        assert not is_claimed(name[:-1])
