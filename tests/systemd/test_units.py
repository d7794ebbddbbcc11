# SPDX-License-Identifier: Apache-2.0
"""The units run balancer and node with few rights, and what happens to daemons breaks nothing."""

import signal

import pytest

from tests.systemd.site import lb_toml, until

# The first one waits for wheels, an installation and two boots.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

# CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF by their numbers in linux/capability.h
EXACTLY = f"{1 << 12 | 1 << 13 | 1 << 38 | 1 << 39:016x}"


def failures(results):
    """Return what went wrong, after making sure that there was something to go wrong."""
    done = [one for one in results if one.kind == "request"]
    assert len(done) > 100
    assert {"node-0"} == {one.node for one in done if one.error is None}
    return [one for one in results if one.error is not None]


@pytest.mark.parametrize(("name", "unit"), [("lb-0", "galelb"), ("node-0", "galelb-node")])
def test_a_daemon_has_exactly_the_listed_capabilities(started, name, unit):
    machine = started.found[name]
    text = machine.run("cat", f"/proc/{started.pid(machine, unit)}/status")
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    assert [EXACTLY] * 3 == [status[key].strip() for key in ("CapBnd", "CapEff", "CapPrm")]
    assert "0" * 16 == status["CapAmb"].strip()
    assert ("1", "2") == (status["NoNewPrivs"].strip(), status["Seccomp"].strip())
    assert "0" == started.show(machine, unit, "NRestarts")


def test_a_started_balancer_forwards_when_systemctl_returns(site):
    site.lb.run("systemctl", "stop", "galelb")
    site.lb.run("galelb", "detach")
    assert "xdp" not in site.lb.run("ip", "link", "show", "eth0")

    site.lb.run("systemctl", "start", "galelb")

    assert "xdp" in site.lb.run("ip", "link", "show", "eth0")
    site.lb.run("galelb", "status")
    status = site.show(site.lb, "galelb", "StatusText")
    assert "instance default forwards for 1 service of /etc/galelb/lb.toml" == status
    assert "reports to" in site.show(site.node, "galelb-node", "StatusText")


def test_requests_pass(site):
    with site.clients(site.requests()) as clients:
        clients.wait(20)
        clients.wait(400)
        results = clients.end()

    assert [] == failures(results)


def test_restarts_lose_no_request_and_no_connection(site):
    before = site.pid(site.lb, "galelb")
    with site.clients(site.requests(), site.held(20)) as clients:
        clients.wait(20)
        for _ in range(2):
            site.lb.run("systemctl", "restart", "galelb")
            clients.wait(200)
        results = clients.end()

    assert before != site.pid(site.lb, "galelb")
    assert [] == failures(results)


def test_what_is_stopped_forwards_on_and_the_next_start_adopts_it(site):
    with site.clients(site.requests()) as clients:
        clients.wait(20)
        site.lb.run("systemctl", "stop", "galelb")
        assert 0 == site.pid(site.lb, "galelb")
        clients.wait(200)
        site.lb.run("systemctl", "start", "galelb")
        clients.wait(200)
        results = clients.end()

    assert [] == failures(results)
    assert "event=ready instance=default adopted=true" in site.journal()


def test_a_hanging_daemon_is_restarted_and_connections_through_it_live_on(site):
    # A quarter of the unit's patience, to save the test's time.
    drop_in = "/etc/systemd/system/galelb.service.d/watchdog.conf"
    site.lb.write(drop_in, "[Service]\nWatchdogSec=4\n")
    site.lb.run("systemctl", "daemon-reload")
    site.lb.run("systemctl", "restart", "galelb")
    before = site.pid(site.lb, "galelb")
    try:
        with site.clients(site.requests(), site.held(60)) as clients:
            clients.wait(20)
            site.lb.run("kill", f"-{int(signal.SIGSTOP)}", str(before))
            until(lambda: site.pid(site.lb, "galelb") not in (0, before), "another process")
            active = "active"
            until(lambda: site.show(site.lb, "galelb", "ActiveState") == active, "its readiness")
            clients.wait(200)
            results = clients.end()
    finally:
        site.lb.run("rm", drop_in)
        site.lb.run("systemctl", "daemon-reload")

    assert [] == failures(results)
    journal = site.journal()
    assert "Watchdog timeout" in journal
    assert "Fatal Python error: Aborted" in journal  # with what it was busy with


def test_a_reload_takes_a_new_service_and_keeps_the_process(site):
    before = site.pid(site.lb, "galelb")
    site.lb.write("/etc/galelb/lb.toml", lb_toml(ports=(80, 81)))

    site.lb.run("systemctl", "reload", "galelb")

    site.wait_answer(81)
    until(
        lambda: "forwards for 2 services" in site.show(site.lb, "galelb", "StatusText"),
        "the status after a reload",
    )
    assert before == site.pid(site.lb, "galelb")


def test_a_mistake_fails_the_reload_and_everything_goes_on(site):
    before = site.pid(site.lb, "galelb")
    site.lb.write("/etc/galelb/lb.toml", lb_toml() + "prot = 80\n")

    done = site.lb.attempt("systemctl", "reload", "galelb")

    assert 0 != done.returncode
    assert "/etc/galelb/lb.toml:" in site.journal()
    assert "unknown" in site.journal().lower()
    assert before == site.pid(site.lb, "galelb")
    assert site.ask()


def test_a_hangup_with_a_mistake_is_refused_in_the_status_and_the_journal(site):
    before = site.pid(site.lb, "galelb")
    site.lb.write("/etc/galelb/lb.toml", lb_toml() + "prot = 80\n")

    site.lb.run("kill", "-HUP", str(before))

    refused = "the last reload was refused"
    until(lambda: refused in site.show(site.lb, "galelb", "StatusText"), "a refusal")
    errors = [one for one in site.entries() if "event=not_reloaded" in one["MESSAGE"]]
    assert {"3"} == {one["PRIORITY"] for one in errors}
    assert before == site.pid(site.lb, "galelb")
    assert site.ask()


def test_a_mistake_fails_the_start_once_with_its_line_in_the_journal(site):
    site.lb.run("systemctl", "stop", "galelb")
    site.lb.write("/etc/galelb/lb.toml", lb_toml() + "prot = 80\n")
    line = len(lb_toml().splitlines()) + 1

    done = site.lb.attempt("systemctl", "start", "galelb")

    assert 0 != done.returncode
    assert "failed" == site.show(site.lb, "galelb", "ActiveState")
    told = [one for one in site.entries() if f"/etc/galelb/lb.toml:{line}" in one["MESSAGE"]]
    assert told
    assert "3" == told[-1]["PRIORITY"]
    assert site.ask()  # what an earlier run left forwards on


def test_lines_in_the_journal_have_their_severity_and_no_second_time(site):
    entries = [one for one in site.entries() if one.get("_COMM") == "galelb"]
    levels = {"info": "6", "warning": "4"}
    seen = set()
    for one in entries:
        level = one["MESSAGE"].partition(" ")[0].removeprefix("level=")
        if level in levels:
            assert (levels[level], False) == (one["PRIORITY"], "timestamp=" in one["MESSAGE"])
            seen.add(level)

    assert set(levels) == seen


def test_an_agent_sets_up_vips_and_tunnels_with_these_capabilities(site):
    site.lb.write("/etc/galelb/lb.toml", lb_toml(ports=(8080,), forwarder="l3_route"))
    site.lb.run("systemctl", "restart", "galelb")

    site.wait_answer(8080)

    assert "xdp" in site.node.run("ip", "link", "show", "eth0")
    site.node.run("systemctl", "restart", "galelb-node")
    site.wait_answer(8080)
    journal = site.journal("galelb-node", site.node)
    assert "level=error" not in journal
    site.node.run("systemctl", "stop", "galelb-node")
    assert "xdp" not in site.node.run("ip", "link", "show", "eth0")
