"""A builder's events as the lines that faas-cli reads: shape and size of each."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from gateway.types.errors import DeadlineExceededError

# Go's line scanner gives up at 64 KiB; a character takes six bytes at worst.
LINE_BYTES: Final = 60 * 1024
PIECE_CHARACTERS: Final = 8 * 1024
# Kept of the log where the caller wants one document at the end.
MAX_LOG_LINES: Final = 20_000

Status = Literal["in_progress", "success", "failed"]


class BuildEvent(Protocol):
    """Progress of a build, or its result. duration: seconds since the build began."""

    @property
    def log(self) -> tuple[str, ...]: ...
    @property
    def image(self) -> str: ...
    @property
    def status(self) -> Status: ...
    @property
    def error(self) -> str: ...
    @property
    def duration(self) -> float: ...


class Builder(Protocol):
    """Makes an image of a build context; closing the iterator cancels the build."""

    def build(self, tar: Path) -> AsyncIterator[BuildEvent]:
        """The events of one build, the last one its result."""


async def limited(
    events: AsyncIterator[BuildEvent], seconds: float
) -> AsyncGenerator[BuildEvent, None]:
    """`events`, for `seconds` at most; closing this closes the builder's side too.

    Raises DeadlineExceededError.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    event = await anext(events)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise DeadlineExceededError(f"the build took longer than {seconds:g} s") from error
            yield event
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()


async def stream(
    first: BuildEvent | None, rest: AsyncGenerator[BuildEvent, None]
) -> AsyncGenerator[dict[str, Any], None]:
    """Documents of the events, each short enough for a line; a build that times out has failed."""
    if first is None:
        yield failed("the build ended without a result")
        return
    for document in documents(first):
        yield document
    try:
        async for event in rest:
            for document in documents(event):
                yield document
    except DeadlineExceededError as error:
        yield failed(str(error))


async def collect(events: AsyncGenerator[BuildEvent, None]) -> dict[str, Any]:
    """One document of a whole build."""
    log: list[str] = []
    result = failed("the build ended without a result")
    async for event in events:
        log += event.log[: MAX_LOG_LINES - len(log)]
        if event.status != "in_progress":
            result = _document(event)
    return {**result, "log": log}


def documents(event: BuildEvent) -> Iterator[dict[str, Any]]:
    """The event as documents: its log over as many as needed, then the rest of it."""
    pending: list[str] = []
    size = 0
    for piece in _pieces(event.log):
        length = len(json.dumps(piece)) + 1
        if pending and size + length > LINE_BYTES:
            yield {"log": pending, "image": "", "status": "in_progress"}
            pending, size = [], 0
        pending.append(piece)
        size += length
    if event.status == "in_progress":
        yield {**_document(event), "log": pending}
        return
    if pending:
        yield {"log": pending, "image": "", "status": "in_progress"}
    yield _document(event)


def _pieces(log: tuple[str, ...]) -> Iterator[str]:
    for line in log:
        for start in range(0, max(len(line), 1), PIECE_CHARACTERS):
            yield line[start : start + PIECE_CHARACTERS]


def _document(event: BuildEvent) -> dict[str, Any]:
    document: dict[str, Any] = {"log": [], "image": event.image, "status": event.status}
    if event.error:
        document["error"] = event.error[:PIECE_CHARACTERS]
    if event.status != "in_progress":
        document["duration"] = round(event.duration, 3)
    return document


def failed(error: str) -> dict[str, Any]:
    """The document of a build that ended without one of its own."""
    return {"log": [], "image": "", "status": "failed", "error": error}
