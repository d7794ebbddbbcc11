# SPDX-License-Identifier: Apache-2.0
"""Faulty plugins: found, named with their package, and harmless to the others."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from galelb.config import load_balancer_config
from galelb.errors import ConfigError, PluginError
from galelb.forwarder import Forwarder, Options
from galelb.hooks import hookimpl
from galelb.plugins import Plugins
from galelb.plugins.loading import Candidate, find_candidates
from galelb.sources import Scheduler


class Nat(Forwarder):
    """Does nothing."""

    name = "nat"
    source = Path("nat.bpf.c")

    def plan(self, view, maps):
        return {}


class WithNat:
    @hookimpl
    def galelb_register_forwarders(self):
        return [Nat]


def plugin(**functions):
    """An object with these hook implementations (self first)."""
    return type("Made", (), {name: hookimpl(f) for name, f in functions.items()})()


def candidate(plugin, name="mine", package="gale-mine"):
    return Candidate(name=name, package=package, version="1.2", plugin=plugin)


def returning(*classes):
    return plugin(galelb_register_forwarders=lambda self: classes)


class Unmarked:
    def galelb_stopping(self):
        pass


class Property:
    @property
    def galelb_stopping(self):
        raise AssertionError

    @hookimpl
    def galelb_started(self):
        pass


async def waits(self, old, new):
    pass


def broken_register(self):
    raise OSError("disk on fire")


FAULTS = {
    "a misspelt hook": (
        plugin(galelb_node_changd=lambda self, old, new: None),
        r'unknown hook "galelb_node_changd" \(did you mean "galelb_node_changed"\?\)',
    ),
    "an unknown argument": (
        plugin(galelb_node_changed=lambda self, nwe: None),
        r'galelb_node_changed: unknown argument "nwe" \(did you mean "new"\?\); allowed: old, new',
    ),
    "catch-all arguments": (
        plugin(galelb_node_changed=lambda self, **facts: None),
        "name the arguments",
    ),
    "a hook that waits": (plugin(galelb_node_changed=waits), "hooks are not async"),
    "no C file": (
        returning(type("X", (Forwarder,), {"name": "x"})),
        "forwarder x needs a class attribute `source`",
    ),
    "an exit": (
        plugin(galelb_register_forwarders=lambda self: sys.exit(3)),
        "galelb_register_forwarders failed: SystemExit: 3",
    ),
    "a forgotten marker": (Unmarked(), "galelb_stopping lacks the decorator"),
    "a hook that fails": (
        plugin(galelb_register_forwarders=broken_register),
        "galelb_register_forwarders failed: OSError: disk on fire",
    ),
    "no list": (plugin(galelb_register_forwarders=lambda self: None), "failed: TypeError"),
    "no class": (returning(Nat(Options())), "must return subclasses of galelb.forwarder.Forwarder"),
    "another kind of class": (returning(Options), "must return subclasses of"),
    "a class without name": (
        returning(type("X", (Forwarder,), {})),
        "needs a class attribute `name`",
    ),
    "a bad name": (returning(type("X", (Nat,), {"name": "Bad-Name"})), "needs a class attribute"),
    "an abstract class": (
        plugin(galelb_register_schedulers=lambda self: [type("X", (Scheduler,), {"name": "x"})]),
        "scheduler x does not define build",
    ),
    "strange options": (returning(type("X", (Nat,), {"Options": dict})), "Options of nat must be"),
    "one name twice": (returning(Nat, Nat), "registers the name nat twice"),
    "a command that is none": (
        plugin(galelb_register_commands=lambda self: ["x"]),
        "must return named click commands",
    ),
}


@pytest.mark.parametrize(("faulty", "message"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_plugin_is_an_error_naming_it_and_its_package(faulty, message):
    plugins = Plugins([candidate(faulty)])

    with pytest.raises(PluginError, match=rf"^plugin mine: .*{message}.* \(package gale-mine 1.2"):
        plugins.require("mine")


@pytest.mark.parametrize(("faulty", "message"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_plugin_leaves_the_others_working(faulty, message):
    del message
    plugins = Plugins([candidate(faulty), candidate(WithNat(), "nat")])

    plugins.stopping()

    assert plugins.forwarder("nat") is Nat


def test_a_plugin_handed_over_as_an_object_fails_at_once():
    with pytest.raises(PluginError, match="unknown hook"):
        Plugins.discover(load_entry_points=False, extra=[FAULTS["a misspelt hook"][0]])


def test_properties_of_a_plugin_are_not_run():
    assert {} == Plugins([candidate(Property())]).broken


def test_a_name_that_two_plugins_register_is_an_error_naming_both():
    plugins = Plugins(
        [candidate(WithNat(), "one", "pkg-one"), candidate(WithNat(), "two", "pkg-two")]
    )

    with pytest.raises(PluginError, match=r"plugin nat: registered twice.*pkg-one.*pkg-two"):
        plugins.forwarder("nat")


def test_two_plugins_of_the_same_name_are_an_error_naming_both():
    plugins = Plugins([candidate(WithNat(), "nat", "one"), candidate(WithNat(), "nat", "two")])

    with pytest.raises(PluginError, match=r"name of a plugin of package one.*\(package two"):
        plugins.forwarder("nat")


CONFIG = (
    '[private_interface]\nnet_interface_private = "lo"\n[public_interface]\n'
    'net_interface_public = "lo"\n[node_health]\nsources = []\n[forwarding]\nplugin = "{}"\n'
)


def test_a_broken_plugin_in_use_is_an_error_of_the_configuration(tmp_path):
    path = tmp_path / "lb.toml"
    path.write_text(CONFIG.format("mine"))
    plugins = Plugins([candidate(FAULTS["a misspelt hook"][0])])

    with pytest.raises(ConfigError, match=r":8: forwarding.plugin: plugin mine: .*gale-mine"):
        load_balancer_config(path, plugins)


def test_a_broken_plugin_that_is_not_used_is_a_warning(tmp_path):
    path = tmp_path / "lb.toml"
    path.write_text(CONFIG.format("nat"))
    plugins = Plugins([candidate(FAULTS["a misspelt hook"][0]), candidate(WithNat(), "nat")])

    with capture_logs() as logs:
        load_balancer_config(path, plugins)

    assert [("plugin_skipped", "warning", "mine")] == [
        (log["event"], log["log_level"], log["plugin"]) for log in logs
    ]


def test_a_failing_notify_hook_is_logged_with_its_plugin_and_the_others_run():
    heard = []

    def fail(self):
        raise ValueError("boom")

    def hear(self):
        heard.append("other")

    first, last = plugin(galelb_stopping=hear), plugin(galelb_stopping=hear)
    plugins = Plugins(
        [
            candidate(first, "a"),
            candidate(plugin(galelb_stopping=fail), "b"),
            candidate(last, "c"),
        ]
    )

    with capture_logs() as logs:
        plugins.stopping()

    assert ["other", "other"] == heard
    assert [("hook_failed", "galelb_stopping", "b", "boom")] == [
        (log["event"], log["hook"], log["plugin"], log["error"]) for log in logs
    ]


def test_the_plugin_registered_last_decides_first():
    plugins = Plugins(
        [
            candidate(plugin(galelb_admit_node=lambda self: False), "a"),
            candidate(plugin(galelb_admit_node=lambda self: True), "b"),
        ]
    )

    assert plugins.admit_node(None)


def test_hook_calls_are_traced_when_asked_for():
    environ = {"GALELB_TRACE_HOOKS": "1"}
    heard = plugin(galelb_detached=lambda self, interface: None)
    plugins = Plugins.discover(load_entry_points=False, extra=[heard], environ=environ)

    with capture_logs() as logs:
        plugins.detached("eth0")

    (log,) = logs
    assert ("hook_called", "galelb_detached", {"interface": "'eth0'"}) == (
        log["event"],
        log["hook"],
        log["arguments"],
    )


def test_bundled_plugins_are_found_by_their_entry_points():
    plugins = Plugins.discover(environ={})

    assert {} == plugins.broken
    assert "l4_nat" == plugins.forwarder("l4_nat").name
    assert "health_grpc" == plugins.health_source("health_grpc").name


def test_loading_can_be_limited_and_plugins_disabled():
    limited = find_candidates({"GALELB_LOAD_PLUGINS": "l4_nat"})
    disabled = find_candidates({"GALELB_DISABLE_PLUGINS": "l4_nat"})

    assert ["l4_nat"] == [one.name for one in limited]
    assert [] == find_candidates({"GALELB_LOAD_PLUGINS": ""})
    assert "l4_nat" not in [one.name for one in disabled]


def test_a_plugin_to_load_that_is_not_installed_is_an_error():
    with pytest.raises(PluginError, match=r'l4_nta: .*not installed \(did you mean "l4_nat"\?\)'):
        find_candidates({"GALELB_LOAD_PLUGINS": "l4_nta"})


def install(folder, name, module_text, entry):
    """Lay out what pip would: a module and the metadata that names its entry point."""
    (folder / f"{name}_module.py").write_text(module_text)
    info = folder / f"{name}-3.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 3.1\n")
    (info / "entry_points.txt").write_text(f"[galelb.plugins]\n{entry}\n")


def test_a_plugin_that_cannot_be_imported_is_named_with_its_package(tmp_path, monkeypatch):
    install(tmp_path, "gale_sad", "import no_such_thing\n", "sad = gale_sad_module")
    install(tmp_path, "gale_quit", "raise SystemExit(3)\n", "quit = gale_quit_module")
    monkeypatch.syspath_prepend(tmp_path)

    plugins = Plugins.discover(environ={})

    text = r"plugin sad: cannot be imported: ModuleNotFoundError.*\(package gale_sad 3.1\)"
    with pytest.raises(PluginError, match=text):
        plugins.forwarder("sad")
    with pytest.raises(PluginError, match="SystemExit: 3"):
        plugins.require("quit")
    with pytest.raises(PluginError, match="cannot be imported"):
        Plugins.discover(environ={"GALELB_LOAD_PLUGINS": "sad"})


def test_infos_show_kinds_versions_options_and_faults():
    plugins = Plugins([candidate(WithNat(), "nat"), candidate(FAULTS["a misspelt hook"][0])])

    infos = {info.name: info for info in plugins.infos()}

    assert {"maglev", "mine", "nat"} == set(infos)
    assert (("forwarder",), "1.2", "gale-mine", "Does nothing.", None) == (
        infos["nat"].kinds,
        infos["nat"].version,
        infos["nat"].package,
        infos["nat"].description,
        infos["nat"].error,
    )
    assert "unknown hook" in infos["mine"].error


def test_a_hook_that_wants_to_exit_is_outlived():
    plugins = Plugins([candidate(plugin(galelb_stopping=lambda self: sys.exit(4)))])

    with capture_logs() as logs:
        plugins.stopping()

    assert [("hook_failed", "mine")] == [(entry["event"], entry["plugin"]) for entry in logs]


def test_a_slow_hook_is_told(monkeypatch):
    now = iter([10.0, 10.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    plugins = Plugins([candidate(plugin(galelb_stopping=lambda self: None))])

    with capture_logs() as logs:
        plugins.stopping()

    assert [("hook_slow", "mine", 0.5)] == [(e["event"], e["plugin"], e["seconds"]) for e in logs]


def test_a_scheduler_that_gives_no_table_is_named():
    plugins = Plugins()
    bad = SimpleNamespace(build=lambda nodes, size, seed: [99] * size)
    plugins._core.schedulers = {"bad": bad}

    with pytest.raises(PluginError, match="plugin bad: no lookup table for service web"):
        plugins.build_table(SimpleNamespace(name="web", scheduler="bad"), [("10.0.0.1", 1)], 7, 0)
