# SPDX-License-Identifier: Apache-2.0
"""Whether the balancer and each service is served."""

from types import SimpleNamespace

import pytest

from galelb.api.view import InterfaceStatus
from galelb.control.serving import not_ready, serving
from galelb.model import XdpMode

ATTACHED = InterfaceStatus(name="eth0", role="public", mode=XdpMode.NATIVE)
DETACHED = InterfaceStatus(name="eth1", role="private", mode=None)


def controller(**tables):
    """A controller whose services by name have a table, or None."""
    numbered = dict(enumerate(tables.items(), 1))
    services = {number: SimpleNamespace(name=name) for number, (name, _) in numbered.items()}
    return SimpleNamespace(
        served=SimpleNamespace(services=services),
        tables=SimpleNamespace(table=lambda number: numbered[number][1]),
    )


@pytest.mark.parametrize(
    ("tables", "interfaces", "reason", "good"),
    [
        ({"web": "t", "dns": "t"}, [ATTACHED], "", {"": True, "web": True, "dns": True}),
        (
            {"web": "t", "dns": None},
            [ATTACHED],
            "no routable node for dns",
            {"": False, "web": True, "dns": False},
        ),
        ({"web": "t"}, [ATTACHED, DETACHED], "not attached to eth1", {"": False, "web": False}),
        ({}, [ATTACHED], "", {"": True}),
    ],
)
def test_what_is_served(tables, interfaces, reason, good):
    made = controller(**tables)

    assert (reason, good) == (not_ready(made, interfaces), serving(made, iter(interfaces)))
