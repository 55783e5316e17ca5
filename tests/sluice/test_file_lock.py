import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.file_lock import FileLock, LockedError, file_lock
from testbed.platform import ROOT

HOLD = """
import sys
from pathlib import Path
from sluice.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire()
lock.write_holder()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.lock"


def test_second_holder_is_refused_and_told_who_has_it(path: Path) -> None:
    with FileLock(path) as lock:
        lock.write_holder()
        with pytest.raises(LockedError, match=f"in use by process {os.getpid()}") as refused:
            FileLock(path).acquire()
        assert refused.value.holder == os.getpid()
        assert path.read_text() == f"{os.getpid()}\n"
    FileLock(path).acquire()


def test_holder_that_is_killed_gives_the_lock_back(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(LockedError) as refused:
            FileLock(path).acquire()
        assert refused.value.holder == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
        with FileLock(path):
            assert path.exists()


def test_program_that_is_started_meanwhile_does_not_keep_the_lock(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        lock.release()
        with FileLock(path):
            sleeper.kill()


def test_folder_is_locked_without_being_changed(tmp_path: Path) -> None:
    with FileLock(tmp_path, create=False):
        with pytest.raises(LockedError) as refused:
            FileLock(tmp_path, create=False).acquire()
        assert refused.value.holder is None
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_missing_is_not_made_where_none_is_wanted(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock(path, create=False).acquire()
    assert not path.exists()


async def test_lock_is_waited_for_until_it_is_given_back(path: Path) -> None:
    order: list[str] = []
    held, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with file_lock(path):
            held.set()
            await leave.wait()
            order.append("first")

    async def second() -> None:
        await held.wait()
        leave.set()
        async with file_lock(path):
            order.append("second")

    await asyncio.gather(first(), second())
    assert order == ["first", "second"]


async def test_waiter_that_is_cancelled_leaves_the_lock_to_the_next(path: Path) -> None:
    async def wait() -> None:
        async with file_lock(path):
            raise AssertionError

    with FileLock(path):
        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiter.cancel()
        assert isinstance(
            (await asyncio.gather(waiter, return_exceptions=True))[0], asyncio.CancelledError
        )
    async with asyncio.timeout(30), file_lock(path):
        assert path.exists()
