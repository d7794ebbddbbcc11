# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from galelb.control.state import Attachment, SavedState, load_state, save_state
from galelb.errors import GaleError


def test_without_a_file_the_state_is_fresh(tmp_path):
    state = load_state(tmp_path)

    assert not state.adopted
    assert state.nodes == {}


def test_saved_state_is_adopted(tmp_path):
    saved = SavedState(
        services={"tcp/192.0.2.1/80/0": 1},
        nodes={"10.0.0.1": 1},
        attachments=(Attachment(interface="eth0", ifindex=2, mode="native"),),
        flow_seed=7,
    )
    save_state(tmp_path, saved)

    loaded = load_state(tmp_path)

    assert loaded.adopted
    assert saved.services == loaded.services
    assert saved.attachments == loaded.attachments
    assert loaded.flow_seed == 7


def state(**fields):
    return json.dumps({"version": 1, "attachments": [], **fields})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"version": 99}',
        state(attachments=[{}]),
        state(services=[]),
        state(services={"tcp/192.0.2.1/80/0": "1"}),
        state(nodes={"10.0.0.1": 1.5}),
        state(nodes=None),
        state(tables=[1]),
        state(flow_seed="x"),
        state(flow_seed=-1),
        state(flow_seed=1 << 32),
        state(next_hops=[]),
        state(health={"a": 1}),
        state(slots_pin=5),
        state(adopted=False),
        state(unknown=1),
        state(flow_maps={}),
    ],
)
def test_damaged_state_is_refused_and_says_what_to_do(tmp_path, text):
    (tmp_path / "state.json").write_text(text)

    with pytest.raises(GaleError, match="galelb detach"):
        load_state(tmp_path)


def test_saving_leaves_no_temporary_file(tmp_path):
    save_state(tmp_path, SavedState())

    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_state_that_cannot_be_read_says_what_to_do(tmp_path):
    (tmp_path / "state.json").mkdir()

    with pytest.raises(GaleError, match="galelb detach"):
        load_state(tmp_path)


def test_only_we_may_read_what_is_saved(tmp_path):
    save_state(tmp_path, SavedState())

    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_the_state_of_an_older_version_is_adopted_with_what_it_lacks(tmp_path):
    (tmp_path / "state.json").write_text(state(nodes={"10.0.0.1": 3}))

    loaded = load_state(tmp_path)

    assert loaded.adopted
    assert ({"10.0.0.1": 3}, [], {}) == (loaded.nodes, loaded.flow_maps, loaded.tables)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (state(version=2), "version 2, this galelb reads 1"),
        (state(version="1"), "version '1'"),
        (state(peers=[], leases={}), "it has leases, peers, so a newer galelb wrote it"),
    ],
)
def test_the_state_of_a_newer_version_says_what_to_do(tmp_path, text, why):
    (tmp_path / "state.json").write_text(text)

    with pytest.raises(GaleError, match="go back to the version that wrote it") as caught:
        load_state(tmp_path)

    assert why in str(caught.value)
