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


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"version": 99}', json.dumps({"version": 1, "attachments": [{}]})]
)
def test_damaged_state_is_refused_and_says_what_to_do(tmp_path, text):
    (tmp_path / "state.json").write_text(text)

    with pytest.raises(GaleError, match="galelb detach"):
        load_state(tmp_path)


def test_saving_leaves_no_temporary_file(tmp_path):
    save_state(tmp_path, SavedState())

    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
