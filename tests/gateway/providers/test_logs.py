import asyncio
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.providers.embedded.logs import (
    ENDED_REPLICAS,
    FOLLOW_QUEUE,
    LONGEST_LINE,
    Follower,
    Logs,
    LogWriter,
    open_logs,
    prune_logs,
    read_logs,
)
from gateway.settings import GatewaySettings
from gateway.types.function import LogLine, LogQuery
from gateway.types.ids import FunctionId

FUNCTION = FunctionId("one")
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / FUNCTION.namespace / FUNCTION.name


@pytest.fixture
def written(folder: Path) -> Path:
    """Two replicas that wrote in turn: lines 0, 2, ... of a and 1, 3, ... of b."""
    writers = [LogWriter(folder / f"{name}.log", 1 << 20, 3) for name in ("a", "b")]
    for number in range(10):
        writers[number % 2].write([(at(number), f"line {number}".encode())])
    for writer in writers:
        writer.close()
    return folder


def texts(folder: Path, **query: object) -> list[str]:
    asked = replace(LogQuery(FUNCTION), **query)  # type: ignore[arg-type]  # fields of the query
    return [line.text for line in read_logs(open_logs(folder, asked), asked)]


def test_lines_of_all_replicas_come_in_the_order_of_time(written: Path) -> None:
    assert texts(written) == [f"line {number}" for number in range(10)]


def test_tail_gives_the_newest(written: Path) -> None:
    assert texts(written, tail=3) == ["line 7", "line 8", "line 9"]
    assert len(texts(written, tail=1000)) == 10
    assert texts(written, tail=0) == []


def test_since_leaves_out_what_is_older(written: Path) -> None:
    assert texts(written, since=at(8)) == ["line 8", "line 9"]
    assert texts(written, since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_instance_gives_one_replica(written: Path) -> None:
    assert texts(written, instance="a", tail=2) == ["line 6", "line 8"]
    assert texts(written, instance="absent") == []


def test_tail_reads_across_blocks(folder: Path) -> None:
    writer = LogWriter(folder / "a.log", 1 << 30, 3)
    writer.write([(at(number), b"x" * 1000 + str(number).encode()) for number in range(500)])
    writer.close()
    assert [text.lstrip("x") for text in texts(folder, tail=200)] == [
        str(number) for number in range(300, 500)
    ]


def test_full_file_is_rotated_and_the_oldest_goes(folder: Path) -> None:
    writer = LogWriter(folder / "a.log", 100, 3)
    for number in range(20):
        writer.write([(at(number), f"line {number}".encode())])
    writer.close()
    assert sorted(path.name for path in folder.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    kept = texts(folder)
    assert kept == [f"line {number}" for number in range(20 - len(kept), 20)]
    assert 3 <= len(kept) < 20


def test_half_a_line_of_a_crash_is_left_out(folder: Path) -> None:
    writer = LogWriter(folder / "a.log", 1000, 3)
    writer.write([(at(0), b"whole")])
    writer.close()
    with (folder / "a.log").open("ab") as file:
        file.write(b"2026-01-0")
    assert texts(folder) == ["whole"]


def test_prune_removes_what_is_old_and_keeps_what_is_in_use(written: Path) -> None:
    root = written.parent.parent
    os.utime(written / "a.log", (0, 0))
    os.utime(written / "b.log", (0, 0))
    assert prune_logs(root, frozenset({"a"}), 1.0, 1 << 30) > 0
    assert [path.name for path in written.iterdir()] == ["a.log"]
    prune_logs(root, frozenset(), 1.0, 1 << 30)
    assert list(root.iterdir()) == []


def test_prune_keeps_the_newest_within_the_bytes(written: Path) -> None:
    os.utime(written / "a.log", (1, 1))
    prune_logs(written.parent.parent, frozenset(), 0.0, (written / "b.log").stat().st_size)
    assert [path.name for path in written.iterdir()] == ["b.log"]


def test_prune_bounds_the_logs_of_a_function_that_restarts_for_ever(folder: Path) -> None:
    for number in range(ENDED_REPLICAS + 5):
        LogWriter(folder / f"replica-{number}.log", 100, 3).close()
        os.utime(folder / f"replica-{number}.log", (number, number))
    prune_logs(folder.parent.parent, frozenset(), -1.0, 1 << 30)
    names = {path.name for path in folder.iterdir()}
    assert len(names) == ENDED_REPLICAS
    assert "replica-4.log" not in names


async def collected(tmp_path: Path, data: bytes) -> list[LogLine]:
    logs = Logs(tmp_path, GatewaySettings())
    reading, writing = os.pipe()
    collector = logs.collect(FUNCTION, "a", reading)
    with os.fdopen(writing, "wb") as pipe:
        await asyncio.to_thread(pipe.write, data)
        await asyncio.to_thread(pipe.flush)
    collector.close()
    return [line async for line in logs.read(LogQuery(FUNCTION))]


async def test_long_line_is_cut_and_nothing_of_it_lost(tmp_path: Path) -> None:
    lines = await collected(tmp_path, b"x" * (3 * LONGEST_LINE + 5) + b"\nshort\nunended")
    assert [len(line.text) for line in lines] == [*[LONGEST_LINE] * 3, 5, 5, 7]
    assert lines[-1].text == "unended"


async def test_bytes_that_are_no_text_are_shown(tmp_path: Path) -> None:
    (line,) = await collected(tmp_path, b"caf\xe9\r\n")
    assert line.text == "caf�"


async def test_follow_gives_history_then_each_line_once(tmp_path: Path) -> None:
    logs = Logs(tmp_path, GatewaySettings())
    reading, writing = os.pipe()
    collector = logs.collect(FUNCTION, "a", reading)
    collector.note("before")
    stream = logs.read(LogQuery(FUNCTION, follow=True))
    assert (await anext(stream)).text == "before"
    for number in range(3):
        os.write(writing, f"after {number}\n".encode())
        assert (await asyncio.wait_for(anext(stream), 60)).text == f"after {number}"
    os.close(writing)
    collector.close()
    await stream.aclose()  # type: ignore[attr-defined]  # an async generator


async def test_slow_follower_is_told_how_much_it_missed() -> None:
    follower = Follower(LogQuery(FUNCTION, follow=True))
    for number in range(FOLLOW_QUEUE + 7):
        follower.offer(LogLine(FUNCTION, "a", at(number), str(number)))
    for number in range(FOLLOW_QUEUE):
        assert (await follower.next()).text == str(number)
    assert (await follower.next()).text.startswith("7 log lines were left out")


async def test_follower_of_one_instance_hears_no_other() -> None:
    follower = Follower(LogQuery(FUNCTION, instance="a", follow=True))
    follower.offer(LogLine(FUNCTION, "b", at(0), "other"))
    follower.offer(LogLine(FUNCTION, "a", at(1), "own"))
    assert (await follower.next()).text == "own"
