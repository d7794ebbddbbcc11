# SPDX-License-Identifier: Apache-2.0
"""What another configuration would change, worked out from two files."""

import attrs
import pytest

from galelb.api.view import UnknownNodeError
from galelb.model import NodeState
from galelb.plan.nodes import after_reload, after_words, node_changes
from galelb.plan.show import as_json


def service(name="web", port=80, more=""):
    return f'[[services]]\nname = "{name}"\nvip = "192.0.2.1"\nport = {port}\n{more}'


def nodes(*lasts, more=""):
    return "".join(f'[[nodes]]\nip = "10.0.0.{last}"\n{more}' for last in lasts)


THREE = nodes(1, 2, 3)


def only(changes):
    (change,) = [one for one in changes if one.change != "same"]
    return change


class TestServices:
    def test_the_same_configuration_changes_nothing(self, plans):
        plan = plans.plan(service() + THREE, service() + THREE)

        assert plan.nothing
        assert (plan.restart, plan.notes, plan.recompiles) == ([], [], False)

    def test_a_node_that_comes_moves_its_share_and_hardly_more(self, plans):
        plan = plans.plan(service() + THREE, service() + nodes(1, 2, 3, 4))

        change = only(plan.services)
        assert 0.24 < change.moved < 0.26
        assert (change.nodes_before, change.nodes_after) == (3, 4)
        assert only(plan.nodes).change == "added"

    def test_only_new_flows_move_where_connections_are_tracked(self, plans):
        stateless = service("direct", 81, 'forwarder = "l2_bridge"\n')
        before = service() + stateless

        plan = plans.plan(before + THREE, before + nodes(1, 2))

        told = {one["name"]: one for one in as_json(plan, "new", "old")["services"]}
        assert (told["web"]["moves"], told["direct"]["moves"]) == ("new_flows", "all_flows")
        assert told["web"]["moved"] == told["direct"]["moved"] > 0.3

    def test_a_service_goes_by_where_clients_connect(self, plans):
        plan = plans.plan(service() + THREE, service(port=8080) + THREE)

        assert [(one.change, one.moved) for one in plan.services] == [
            ("added", None),
            ("removed", None),
        ]
        assert plan.services[1].details == ("its open connections are cut",)

    def test_a_name_is_no_other_service(self, plans):
        change = only(plans.plan(service() + THREE, service("shop") + THREE).services)

        assert (change.change, change.moved, change.details) == (
            "changed",
            0.0,
            ("name: web to shop",),
        )

    def test_another_scheduler_builds_another_table(self, plans):
        plan = plans.plan(service() + THREE, service(more='scheduler = "ring"\n') + THREE)

        change = only(plan.services)
        assert change.details == ("scheduler: maglev to ring",)
        assert change.moved > 0.5

    def test_options_of_a_scheduler_count(self, plans):
        ring = service(more='scheduler = "ring"\n') + THREE

        plan = plans.plan(ring, ring + "[plugins.ring]\nvirtual_nodes = 256\n")

        assert only(plan.services).moved > 0.3
        assert [one.key for one in plan.settings] == ["plugins.ring.virtual_nodes"]

    def test_another_forwarder_says_what_becomes_of_connections(self, plans):
        plan = plans.plan(service() + THREE, service(more='forwarder = "l2_bridge"\n') + THREE)

        assert only(plan.services).details == (
            "forwarder: l4_nat to l2_bridge",
            "its open connections are cut, since one of the forwarders tracks them",
        )

    def test_a_service_with_nodes_of_its_own_moves_with_these_only(self, plans):
        both = service() + service("own", 81, 'nodes = ["10.0.0.1", "10.0.0.2"]\n')

        plan = plans.plan(both + THREE, both + nodes(1, 2))

        assert only(plan.services).name == "web"

    def test_a_service_that_loses_its_last_node_has_no_share(self, plans):
        change = only(plans.plan(service() + nodes(1), service()).services)

        assert (change.moved, change.nodes_before, change.nodes_after) == (None, 1, 0)

    def test_the_default_service_stays_at_its_address(self, plans):
        named = plans.side(service("default", 8080) + THREE)
        old = attrs.evolve(named, config=plans.config(THREE))

        plan = plans.plan(old, nodes(1, 2, 3, 4))

        assert only(plan.services).change == "changed"
        assert [str(one.vip) for one in old.services] == ["192.0.2.1"]

    def test_without_any_node_it_says_so(self, plans):
        plan = plans.plan(service(), service() + service("more", 81))

        assert plan.notes == ["no node is known on either side, so no share can be told"]


class TestSettings:
    def test_settings_are_told_as_in_the_file(self, plans):
        changed = '[node_health]\nslow_start = "30s"\nchecks_before_routing = 5\n'

        plan = plans.plan(service() + THREE, service() + THREE + changed)

        assert [(one.key, one.before, one.after) for one in plan.settings] == [
            ("node_health.checks_before_routing", "3", "5"),
            ("node_health.slow_start", '"0s"', '"30s"'),
        ]
        assert not plan.nothing

    def test_what_takes_a_restart_is_said(self, plans):
        plan = plans.plan(
            service() + THREE, service() + THREE + "[forwarding]\ntable_size = 1009\n"
        )

        (reason,) = plan.restart
        assert reason.startswith("forwarding.table_size: cannot change while running")

    @pytest.mark.parametrize(
        ("after", "expected"),
        [
            (service() + nodes(1, 2, 3, 4), False),
            (service() + THREE + '[node_health]\nchecks_timeout = "9s"\n', False),
            (service(more='scheduler = "ring"\n') + THREE, False),
            (service() + service("more", 81) + THREE, True),
            (service(more='forwarder = "l2_bridge"\n') + THREE, True),
            (service() + THREE + '[plugins.l4_nat]\nmode = "dnat"\n', True),
        ],
        ids=["node", "health", "scheduler", "service", "forwarder", "option"],
    )
    def test_programs_are_compiled_only_for_what_is_in_them(self, plans, after, expected):
        assert plans.plan(service() + THREE, after).recompiles is expected

    def test_a_slow_start_is_reached_in_time(self, plans):
        slow = '[node_health]\nslow_start = "30s"\n'

        plan = plans.plan(service() + THREE + slow, service() + nodes(1, 2, 3, 4) + slow)

        (note,) = plan.notes
        assert "grow to their share over 30s" in note


def known(plans, text=THREE, **changes):
    """The nodes of a file; the first one with other facts."""
    first, *others = plans.side(service() + text).nodes
    record = attrs.evolve(first.record, **changes.pop("record", {}))
    return (attrs.evolve(first, record=record, **changes), *others)


def announced(plans, **changes):
    """Three nodes of which the first is not configured but reports."""
    nodes = known(plans)
    node = attrs.evolve(nodes[0].record.node, static=False)
    record = {"node": node, **changes.pop("record", {})}
    return known(plans, record=record, reporters=frozenset({"health_grpc"}), **changes)


def what(before, after):
    first = node_changes(before, after)[0]
    return first.change, first.details


class TestNodes:
    def test_a_node_that_is_not_configured_stays(self, plans):
        before = announced(plans)

        after = after_reload(before, plans.config(service() + nodes(2, 3)))

        assert what(before, after) == ("same", ())

    def test_it_falls_with_the_source_that_it_reports_by(self, plans):
        before = announced(plans)

        config = plans.config(service() + nodes(2, 3) + "[node_health]\nsources = []\n")
        after = after_reload(before, config)

        assert what(before, after) == (
            "changed",
            ("routable to down: no report: health_grpc is no longer in use",),
        )

    def test_it_becomes_static_and_healthy_when_it_is_configured(self, plans):
        before = announced(plans, record={"state": NodeState.DOWN})

        after = after_reload(before, plans.config(service() + THREE))

        assert after[0].record.state is NodeState.ROUTABLE
        assert after[0].record.node.static

    def test_but_not_if_somebody_objects(self, plans):
        before = announced(plans, record={"state": NodeState.DOWN}, objected=True)

        after = after_reload(before, plans.config(service() + THREE))

        assert after[0].record.state is NodeState.DOWN
        assert what(before, after) == ("changed", ("becomes static",))

    def test_a_static_node_that_reports_joins_again(self, plans):
        before = known(plans, reporters=frozenset({"health_grpc"}))

        after = after_reload(before, plans.config(service() + nodes(2, 3)))

        assert what(before, after) == (
            "removed",
            ("it reports, too, so it joins again after its probation",),
        )

    @pytest.mark.parametrize(
        ("weight_from", "operator", "expected"),
        [("config", None, 7), ("node", None, 1), ("operator", 4, 4)],
    )
    def test_the_configurations_weight_counts_when_nobody_else_speaks(
        self, plans, weight_from, operator, expected
    ):
        before = known(plans, weight_from=weight_from, record={"operator_weight": operator})

        after = after_reload(before, plans.config(service() + nodes(1, 2, 3, more="weight = 7\n")))

        assert after[0].record.weight == expected

    def test_a_mac_address_of_a_node_is_a_change(self, plans):
        mac = 'mac = "02:00:00:00:00:09"\n'
        before = known(plans)

        after = after_reload(before, plans.config(service() + nodes(1, more=mac) + nodes(2, 3)))

        assert what(before, after) == ("changed", ("mac: discovered to 02:00:00:00:00:09",))


class TestWords:
    def test_a_weight_holds_at_once_and_whole(self, plans):
        nodes = known(plans, record={"start_share": 40, "load_share": 60})

        after = after_words(nodes, weights={"10.0.0.1": 8})

        assert after[0].record.effective_weight == 8
        assert what(nodes, after)[1] == ("weight: 1 to 8 (by the operator)",)

    def test_a_drained_node_gets_nothing_and_an_undrained_one_its_share(self, plans):
        nodes = known(plans)
        drained = after_words(nodes, drain=["10.0.0.1"])
        back = after_words(drained, undrain=["10.0.0.1"])

        changes = [node_changes(nodes, drained)[0], node_changes(drained, back)[0]]

        assert [(c.weight_before, c.weight_after, c.details) for c in changes] == [
            (1, 0, ("drains",)),
            (0, 1, ("drains no longer",)),
        ]

    def test_nodes_go_by_their_name_too(self, plans):
        nodes = known(plans, '[[nodes]]\nip = "10.0.0.1"\nname = "web-1"\n')

        assert after_words(nodes, drain=["web-1"])[0].record.draining

    def test_an_unknown_node_is_an_error_with_the_nearest_one(self, plans):
        with pytest.raises(UnknownNodeError, match=r"did you mean 10\.0\.0\.[123]"):
            after_words(known(plans), drain=["10.0.0.4"])

    def test_what_moves_is_what_a_drained_node_had(self, plans):
        old = plans.side(service() + nodes(*range(1, 11)))

        then = attrs.evolve(old, nodes=after_words(old.nodes, drain=["10.0.0.1"]))

        assert 0.1 <= only(plans.plan(old, then).services).moved < 0.11


def test_a_table_that_is_not_as_computed_is_noted(plans):
    old = plans.side(service() + THREE)
    old = attrs.evolve(old, digests={"tcp/192.0.2.1/80/0": "0123456789abcdef"})

    plan = plans.plan(old, service() + THREE)

    (note,) = plan.notes
    assert note.startswith("web: the balancer's lookup table is another")


def test_a_node_that_no_forwarder_takes_counts_nothing(plans):
    old = plans.side(service() + THREE)
    refused = attrs.evolve(old.nodes[0], refused="no source port left")
    old = attrs.evolve(old, nodes=(refused, *old.nodes[1:]))

    plan = plans.plan(old, service() + THREE)

    assert [(one.nodes_before, one.nodes_after) for one in plan.services] == [(2, 2)]
    assert plan.nodes[0].weight_before == 0
