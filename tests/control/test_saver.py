# SPDX-License-Identifier: Apache-2.0
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
