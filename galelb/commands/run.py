# SPDX-License-Identifier: Apache-2.0
"""`galelb run` and `galelb detach`."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import os
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galelb.errors import ConfigError, EnvironmentProblem, GaleError
from galelb.logs import LEVELS, get_logger

if TYPE_CHECKING:
    import trio

    from galelb.balancer import Balancer
    from galelb.notify import Notifier

__all__ = ["collect_seldom", "detach_command", "run_command"]

log = get_logger("galelb.run")

_config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="lb.toml; else ./lb.toml, /etc/galelb/lb.toml"
)


@click.command("run")
@_config_option
@click.option(
    "--plugin", "select", multiple=True, metavar="NAME", help="Use this plugin for its kind."
)
@click.option("--detach-on-exit", is_flag=True, help="Stop forwarding when told to stop.")
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.option("--log-json", is_flag=True, help="Log JSON lines.")
def run_command(
    config: Path | None,
    select: tuple[str, ...],
    detach_on_exit: bool,
    log_level: str,
    log_json: bool,
) -> None:
    """Run a balancer until SIGTERM or SIGINT.

    Programs stay attached and go on forwarding when it ends, so that a restart loses nothing;
    --detach-on-exit or `galelb detach` removes them.
    """
    _require_root("galelb run")
    faulthandler.enable()  # a watchdog's SIGABRT then says where the time went
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    _expect_to_compile()
    with _collecting_nothing():
        import trio

        from galelb.balancer import Balancer
        from galelb.bpf.bpffs import ensure_bpffs
        from galelb.config import find_config, load_balancer_config, missing_interfaces
        from galelb.datapath.claims import claimed
        from galelb.datapath.interfaces import wanted_interfaces
        from galelb.logs import configure_logging
        from galelb.notify import Notifier
        from galelb.plugins import Plugins

        configure_logging(log_level, json=log_json)
        notifier = Notifier.from_environment()
        plugins = Plugins.discover()
        loaded = load_balancer_config(find_config("lb.toml", config), plugins, select)
    if missing := missing_interfaces(loaded):
        raise ConfigError(
            [f"{loaded.path}: this machine has no interface {name}" for name in missing]
        )
    with _only_one(loaded.instance.directory), claimed(wanted_interfaces(loaded)):
        pin_dir = ensure_bpffs(loaded.instance.directory / "bpf")
        balancer = Balancer(loaded, plugins, pin_dir=pin_dir, detach_on_exit=detach_on_exit)
        collect_seldom()
        trio.run(_run_until_signal, balancer, select, notifier)


@contextlib.contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Keep the garbage collector out of imports, which leave no garbage: a tenth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def collect_seldom() -> None:
    """Let the garbage collector pause everything less often.

    What is imported stays, and so do the hundreds of objects of each node's connection: walking
    over them again and again took 7 % of the time with 2,000 nodes, 0.1 s at once.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _expect_to_compile() -> None:
    """Where nothing was compiled yet, compilers start while we import the rest: 0.1 s less."""
    from galelb.bpf.artefacts import Artefacts
    from galelb.bpf.helper import get_ready
    from galelb.datapath.machine import cache_folder

    if not Artefacts(cache_folder()).any():
        get_ready(min(2, len(os.sched_getaffinity(0))))


async def _run_until_signal(
    balancer: Balancer, select: tuple[str, ...], notifier: Notifier
) -> None:
    import trio

    from galelb.notify import Ready

    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, balancer, notifier)
        await nursery.start(_reload_on_hangup, balancer, select, notifier)
        nursery.start_soon(notifier.keep_alive)
        await balancer.run(task_status=Ready(notifier, lambda: _status(balancer)))
        nursery.cancel_scope.cancel()


def _status(balancer: Balancer) -> str:
    config = balancer.config
    services = f"{len(config.services)} service{'s' * (len(config.services) != 1)}"
    return f"instance {config.instance.name} forwards for {services} of {config.path}"


async def _reload_on_hangup(
    balancer: Balancer,
    select: tuple[str, ...],
    notifier: Notifier,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """SIGHUP rereads the file; one that cannot be used changes nothing and is logged."""
    import trio

    from galelb.config import load_balancer_config

    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            log.info("reloading", path=str(balancer.config.path))
            notifier.reloading()
            status = ""
            try:
                config = await trio.to_thread.run_sync(
                    load_balancer_config, balancer.config.path, balancer.plugins, select
                )
                await balancer.reload(config)
            except GaleError as error:
                balancer.refuse(str(error))
                status = f"; the last reload was refused: {error}"
            notifier.ready(_status(balancer) + status)


async def _watch_signals(
    balancer: Balancer, notifier: Notifier, *, task_status: trio.TaskStatus[None]
) -> None:
    """SIGTERM and SIGINT stop; stopping is bounded, so that a second one changes nothing."""
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if not balancer.stop.is_set():
                log.info("stopping", signal=signal.Signals(number).name)
                notifier.stopping()
                balancer.request_stop()


@click.command("detach")
@_config_option
def detach_command(config: Path | None) -> None:
    """Remove programs, maps and saved state of an instance that does not run."""
    import trio

    from galelb.config import find_config, load_balancer_config
    from galelb.datapath.interfaces import wanted_interfaces
    from galelb.logs import configure_logging
    from galelb.plugins import Plugins

    _require_root("galelb detach")
    configure_logging("info", json=False)
    loaded = load_balancer_config(find_config("lb.toml", config), Plugins.discover())
    directory = loaded.instance.directory
    if not directory.is_dir():
        click.echo(f"instance {loaded.instance.name}: nothing to remove at {directory}")
        return
    with _only_one(directory):
        with _unclaimed(wanted_interfaces(loaded)) as names:
            trio.run(_detach, directory, names)
        _remove(directory)
    click.echo(f"instance {loaded.instance.name}: removed")


@contextlib.contextmanager
def _unclaimed(names: Iterable[str]) -> Iterator[frozenset[str]]:
    """Hold those of the interfaces that no running balancer has; others are its business."""
    from galelb.datapath.claims import claim

    with contextlib.ExitStack() as stack:
        holders = {name: stack.enter_context(claim(name)) for name in names}
        for name, pid in holders.items():
            if pid is not None:
                log.warning("interface_of_another_balancer", interface=name, pid=pid)
        yield frozenset(name for name, pid in holders.items() if pid is None)


async def _detach(directory: Path, names: frozenset[str]) -> None:
    """Detach what is remembered, and what an instance left that died before it could save."""
    from galelb.bpf.attach import pinned_programs
    from galelb.control.state import load_state
    from galelb.datapath.attacher import detach, found_attachments
    from galelb.netlink import open_netlink

    only: frozenset[int] | None = pinned_programs(directory / "bpf")
    try:
        attachments = load_state(directory).attachments
    except GaleError as error:
        log.warning("state_not_usable", reason=str(error))
        attachments, only = (), None
    async with open_netlink() as netlink:
        known = {(one.ifindex, one.mode, one.egress) for one in attachments}
        attachments += tuple(
            one
            for one in await found_attachments(netlink, names, only=only)
            if (one.ifindex, one.mode, one.egress) not in known
        )
        await detach(netlink, tuple(one for one in attachments if one.interface in names))


def _remove(directory: Path) -> None:
    """Remove pins, and the bpffs if it is the instance's own, then the instance's folder."""
    from galelb.bpf.bpffs import ensure_bpffs, remove_bpffs
    from galelb.bpf.compile import Compiled, forget_old

    pins = directory / "bpf"
    if pins.is_dir():
        forget_old(ensure_bpffs(pins), Compiled({}, {}), maps=True)
        remove_bpffs(pins)
    shutil.rmtree(directory, ignore_errors=True)


def _require_root(command: str) -> None:
    if os.geteuid() != 0:
        raise EnvironmentProblem(f"{command} needs root: it loads and attaches BPF programs")


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Keep two daemons from being the same instance."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        fd = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentProblem(f"{error.filename}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise GaleError(
            f"an instance is running in {directory}; stop it, or give this one another "
            'name: [instance] name = "..."'
        ) from None
    finally:
        os.close(fd)
