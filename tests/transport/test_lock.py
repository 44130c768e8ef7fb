from __future__ import annotations

import os
import signal
import time
import warnings
from pathlib import Path

from slstream.transport.embedded.lock import FileLock


def test_only_one_holds_it(tmp_path: Path) -> None:
    one, two = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    with one:
        assert not two.try_acquire()
    assert two.try_acquire()
    assert not one.try_acquire()
    two.close()
    assert one.try_acquire()
    one.close()
    one.close()


def test_a_forked_child_does_not_keep_the_lock_of_a_dead_parent(tmp_path: Path) -> None:
    """The middle process takes the lock, forks a child that lives on, and is killed."""
    lock = FileLock(tmp_path / "lock")
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads of others
        middle = os.fork()
    if middle == 0:
        mine = FileLock(tmp_path / "lock")
        mine.try_acquire()
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        os.write(write_end, b"%d\n" % child)
        signal.pause()
        os._exit(0)
    child = int(os.read(read_end, 100))
    assert not lock.try_acquire()
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    try:
        deadline = time.monotonic() + 5  # The child may not have run yet.
        while not (taken := lock.try_acquire()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert taken, "the surviving child must not hold it"
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(read_end)
        os.close(write_end)
        lock.close()
