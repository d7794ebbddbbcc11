# SPDX-License-Identifier: Apache-2.0
import threading

import structlog.testing
import trio

from galelb.control.saver import StateSaver
from galelb.control.state import SavedState, load_state


async def until_saved(directory, count):
    # Real time: the write happens in a thread, which a virtual clock would not wait for.
    while load_state(directory).nodes != {"10.0.0.1": count}:
        await trio.sleep(0.01)


async def test_a_burst_of_changes_is_one_write(tmp_path, nursery):
    taken = []

    def snapshot():
        taken.append(1)
        return SavedState(nodes={"10.0.0.1": len(taken)})

    saver = StateSaver(tmp_path, snapshot)
    await nursery.start(saver.run)
    for _ in range(10):
        saver.wake()
    await until_saved(tmp_path, 1)

    assert len(taken) == 1


async def test_a_change_during_a_write_is_saved_too(tmp_path, nursery):
    count = 0

    def snapshot():
        nonlocal count
        count += 1
        if count == 1:
            saver.wake()
        return SavedState(nodes={"10.0.0.1": count})

    saver = StateSaver(tmp_path, snapshot)
    await nursery.start(saver.run)
    saver.wake()
    await until_saved(tmp_path, 2)


async def test_a_disk_that_cannot_be_written_is_logged_and_survived(tmp_path):
    saver = StateSaver(tmp_path / "missing", SavedState)
    with structlog.testing.capture_logs() as logs:
        await saver.save()

    assert [entry["event"] for entry in logs] == ["state_not_saved"]


async def test_two_saves_never_write_at_the_same_time(tmp_path, monkeypatch):
    at_once, most = 0, 0
    changing = threading.Lock()

    def save_slowly(directory, state):
        nonlocal at_once, most
        with changing:
            at_once += 1
            most = max(most, at_once)
        trio.from_thread.run(trio.lowlevel.checkpoint)
        with changing:
            at_once -= 1

    monkeypatch.setattr("galelb.control.saver.save_state", save_slowly)
    saver = StateSaver(tmp_path, SavedState)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(saver.save)

    assert most == 1


async def test_slow_writes_leave_most_of_the_time_to_others(tmp_path, nursery, autojump_clock):
    saves = []

    async def save_slowly():
        saves.append(trio.current_time())
        saver.wake()
        await trio.sleep(0.05)

    saver = StateSaver(tmp_path, SavedState)
    saver.save = save_slowly
    await nursery.start(saver.run)
    saver.wake()
    await trio.sleep(6.1)

    assert len(saves) == 11
