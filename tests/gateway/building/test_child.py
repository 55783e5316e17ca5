import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from gateway.building.child import run_child

TREE = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print("pids", os.getpid(), child.pid, file=sys.stderr, flush=True)
time.sleep(600)
"""


def command(source: str) -> list[str | Path]:
    return [sys.executable, "-I", "-S", "-c", source]


async def lines_of(source: str) -> tuple[list[str], int]:
    lines: list[str] = []

    async def report(line: str) -> None:
        lines.append(line)

    ended = await run_child(command(source), {}, report)
    return lines, ended.code


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # A killed process that nobody has reaped yet is dead all the same.
    return stat.rpartition(")")[2].split()[0] != "Z"


async def gone(pid: int) -> bool:
    """Whether the process ends within a minute."""
    for _ in range(1200):
        if not alive(pid):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_lines_come_whole_masked_and_bounded() -> None:
    source = (
        "import sys; w = sys.stderr.write; w('one\\n\\ntwo\\r'); w('https://u:p@host/x\\n');"
        "w('y' * 100_000); w('\\nlast')"
    )
    lines, code = await lines_of(source)
    assert code == 0
    assert lines[:3] == ["one", "two", "https://****@host/x"]
    assert lines[-1] == "last"
    assert max(map(len, lines)) == 1000


async def test_output_and_code_are_told() -> None:
    async def report(line: str) -> None:
        raise AssertionError(line)

    ended = await run_child(command("import sys; print('x' * 9); sys.exit(3)"), {}, report)
    assert (ended.code, ended.output, ended.errors) == (3, b"x" * 9 + b"\n", ())


async def test_large_output_is_cut() -> None:
    async def report(line: str) -> None:
        raise AssertionError(line)

    ended = await run_child(command("print('x' * 5_000_000)"), {}, report)
    assert (ended.code, len(ended.output)) == (0, 1024 * 1024)


async def test_environment_is_only_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "word")
    lines, _ = await lines_of(
        "import os, sys; sys.stderr.write(str(sorted(set(os.environ) - {'LC_CTYPE'})))"
    )
    assert lines == ["[]"]


async def test_cancelled_build_kills_the_whole_group() -> None:
    started = asyncio.get_running_loop().create_future()

    async def report(line: str) -> None:
        started.set_result(line)

    task = asyncio.create_task(run_child(command(TREE), {}, report))
    pids = [int(word) for word in (await started).split()[1:]]
    assert all(map(alive, pids))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [await gone(pid) for pid in pids] == [True, True]


async def test_program_dies_with_a_killed_gateway() -> None:
    source = f"""
import asyncio, sys
from gateway.building.child import run_child
async def report(line): print(line, flush=True)
asyncio.run(run_child([sys.executable, "-I", "-S", "-c", {TREE!r}], {{}}, report))
"""
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, stdout=asyncio.subprocess.PIPE
    )
    assert gateway.stdout is not None
    _, program, grandchild = (await gateway.stdout.readline()).split()
    try:
        gateway.send_signal(signal.SIGKILL)
        await gateway.wait()
        assert await gone(int(program))
    finally:
        os.kill(int(grandchild), signal.SIGKILL)
