"""When the items of a stream go out: at once where they come apart, together where they do not."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sluice.runtime.python.response import Response, StreamingResponse
from sluice.runtime.python.runners import EagerTaskFactory
from sluice.runtime.python.stream import JOIN_SECONDS, JOINED_BYTES, WriteJoiner, send_stream
from sluice.runtime.python.threads import ThreadPool


class Clock:
    """Time as the test has it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Written:
    """A sink that keeps what is written, and how the stream ended."""

    bodyless = False

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.ended = asyncio.Event()
        self.error: BaseException | None = None
        self.last = b""

    def begin_stream(self, status: int, lines: bytes) -> None: ...

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    async def writable(self) -> None: ...

    def end_stream(self, last: bytes = b"") -> None:
        self.last = last
        self.ended.set()

    def succeeded(self, response: Response | StreamingResponse) -> None: ...

    def still_running(self) -> None: ...

    def failed(self, error: BaseException) -> None:
        self.error = error
        self.ended.set()


async def streamed(items: AsyncIterator[bytes]) -> Written:
    """The whole of a stream, sent as the runtime does it."""
    loop, sink = asyncio.get_running_loop(), Written()
    task_factory = EagerTaskFactory(loop)
    running = send_stream(
        StreamingResponse(200, b"", items, typed=True), sink, ThreadPool(1, loop), task_factory
    )
    await sink.ended.wait()
    assert running is None or running.ended() or not sink.error
    task_factory.close()
    return sink


async def test_first_item_goes_out_at_once_and_those_right_behind_it_together() -> None:
    writes: list[bytes] = []
    joiner = WriteJoiner(writes.append, Clock())
    for item in (b"a", b"b", b"c"):
        joiner.put(item)
    assert writes == [b"a"]
    await asyncio.sleep(0)
    assert writes == [b"a", b"bc"]
    await asyncio.sleep(0)
    assert writes == [b"a", b"bc"]


async def test_items_that_come_apart_go_out_each_at_once() -> None:
    clock, writes = Clock(), list[bytes]()
    joiner = WriteJoiner(writes.append, clock)
    for item in (b"a", b"b", b"c"):
        joiner.put(item)
        clock.now += JOIN_SECONDS * 1.01
    assert writes == [b"a", b"b", b"c"]


async def test_late_item_takes_those_that_wait_with_it() -> None:
    """A generator that holds the loop up between its items delays none past the next."""
    clock, writes = Clock(), list[bytes]()
    joiner = WriteJoiner(writes.append, clock)
    joiner.put(b"a")
    joiner.put(b"b")
    clock.now += 1
    joiner.put(b"c")
    assert writes == [b"a", b"bc"]


async def test_many_bytes_wait_for_nothing() -> None:
    writes: list[bytes] = []
    joiner = WriteJoiner(writes.append, Clock())
    joiner.put(b"a")
    joiner.put(b"b" * JOINED_BYTES)
    assert [len(each) for each in writes] == [1, JOINED_BYTES]


async def test_what_waits_may_be_taken_and_is_then_not_written() -> None:
    writes: list[bytes] = []
    joiner = WriteJoiner(writes.append, Clock())
    joiner.put(b"a")
    joiner.put(b"b")
    assert joiner.rest() == b"b"
    await asyncio.sleep(0)
    assert writes == [b"a"]


async def test_stream_arrives_whole_and_in_order() -> None:
    async def items() -> AsyncIterator[bytes]:
        for number in range(1000):
            yield b"%d," % number
            if number % 100 == 50:
                await asyncio.sleep(0)

    sink = await streamed(items())
    assert b"".join(sink.writes) + sink.last == b"".join(b"%d," % n for n in range(1000))


async def test_item_is_not_kept_while_its_generator_waits() -> None:
    waiting = asyncio.Event()

    async def items() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"
        await waiting.wait()
        yield b"c"

    loop, sink = asyncio.get_running_loop(), Written()
    task_factory = EagerTaskFactory(loop)
    send_stream(
        StreamingResponse(200, b"", items(), typed=True), sink, ThreadPool(1, loop), task_factory
    )
    for _ in range(3):
        await asyncio.sleep(0)
    assert b"".join(sink.writes) == b"ab"
    waiting.set()
    await sink.ended.wait()
    assert b"".join(sink.writes) + sink.last == b"abc"
    task_factory.close()


@pytest.mark.parametrize("count", [1, 5])
async def test_items_before_an_error_are_written_before_it_is_told(count: int) -> None:
    async def items() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"a"
        raise LookupError("the generator's")

    sink = await streamed(items())
    assert isinstance(sink.error, LookupError)
    assert b"".join(sink.writes) == b"a" * count
