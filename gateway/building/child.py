"""Runs a program for a build: reports its lines as they come and kills it with the build."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.building import lifeline
from gateway.building.indexes import masked

# Awaited for each line, so that a slow reader of the build slows the program down.
Report = Callable[[str], Awaitable[None]]
# Eight such lines, every character escaped, stay below the 64 KiB a line that faas-cli reads.
LINE_CHARACTERS: Final = 1000
REMEMBERED_LINES: Final = 60
CHUNK_BYTES: Final = 32 * 1024
STDOUT_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. code: negative for a signal; errors: its last lines on stderr."""

    code: int
    errors: tuple[str, ...]
    output: bytes


async def run_child(
    arguments: Sequence[str | Path], environ: Mapping[str, str], report: Report
) -> Ended:
    """Run a program to its end; every line it writes to stderr is reported, without passwords.

    When the caller is cancelled the program and all it started (its process group) are killed
    first. output: what it wrote to stdout, at most 1 MiB of it.
    """
    process = await asyncio.create_subprocess_exec(
        *_with_lifeline(arguments),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=dict(environ),
        # uv looks for project files from its folder upwards; none of the gateway's concern it.
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.TaskGroup() as group:
            output = group.create_task(_read(process))
            errors = group.create_task(_report_lines(process, report))
        return Ended(await process.wait(), errors.result(), output.result())
    finally:
        await _end(process)


def python_command(script: str, *arguments: str | Path) -> list[str | Path]:
    """The command line of a script of this package, isolated from site and user folders."""
    return [sys.executable, "-I", "-S", "-W", "ignore", script, *arguments]


def _with_lifeline(arguments: Sequence[str | Path]) -> list[str]:
    command = python_command(lifeline.__file__, str(os.getpid()), *arguments)
    return [str(argument) for argument in command]


async def _read(process: Process) -> bytes:
    assert process.stdout is not None  # noqa: S101  # asked for with PIPE
    kept = bytearray()
    while chunk := await process.stdout.read(CHUNK_BYTES):
        kept += chunk[: STDOUT_BYTES - len(kept)]
    return bytes(kept)


async def _report_lines(process: Process, report: Report) -> tuple[str, ...]:
    assert process.stderr is not None  # noqa: S101  # asked for with PIPE
    last: deque[str] = deque(maxlen=REMEMBERED_LINES)
    async for line in _lines(process.stderr):
        last.append(line)
        await report(line)
    return tuple(last)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines without their end, cut where they grow too long."""
    pending = b""
    while chunk := await stream.read(CHUNK_BYTES):
        *whole, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
        if len(pending) > LINE_CHARACTERS:
            whole, pending = [*whole, pending], b""
        for line in whole:
            if line.strip():
                yield _text(line)
    if pending.strip():
        yield _text(pending)


def _text(line: bytes) -> str:
    return masked(line.decode(errors="replace").rstrip())[:LINE_CHARACTERS]


async def _end(process: Process) -> None:
    if process.returncode is None:
        # The child is not reaped yet, so no other process group can have its id.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
