# SPDX-License-Identifier: Apache-2.0
"""Links that never change: to be told of real ones takes root (tests/netns has them)."""

import pytest
import trio

from galelb.group import neighbours


class QuietLinks:
    def __aiter__(self):
        return self

    async def __anext__(self):
        await trio.sleep_forever()

    def close(self):
        pass


@pytest.fixture(autouse=True)
def quiet_links(monkeypatch):
    monkeypatch.setattr(neighbours, "Events", QuietLinks)
