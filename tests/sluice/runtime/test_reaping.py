import os
import subprocess
import sys

from sluice.runtime.reaping import LEFT_ALONE_SECONDS, Reaper


def zombie() -> int:
    """The id of a child of ours that has ended and that nobody waited for."""
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return child


def test_zombie_is_left_alone_at_first_and_reaped_later() -> None:
    reaper = Reaper()
    child = zombie()
    assert child not in reaper.sweep(0.0)
    assert child not in reaper.sweep(LEFT_ALONE_SECONDS - 1)
    assert child in reaper.sweep(LEFT_ALONE_SECONDS + 1)
    assert child not in reaper.sweep(LEFT_ALONE_SECONDS + 2)


def test_child_its_parent_waits_for_keeps_its_exit_code() -> None:
    reaper = Reaper()
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    reaper.sweep(0.0)
    assert process.wait() == 3
    assert process.pid not in reaper.sweep(LEFT_ALONE_SECONDS + 1)


def test_living_child_is_never_reaped() -> None:
    reaper = Reaper()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid not in reaper.sweep(0.0)
        assert process.pid not in reaper.sweep(LEFT_ALONE_SECONDS + 1)
        assert process.poll() is None
