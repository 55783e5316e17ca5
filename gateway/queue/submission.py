"""From a request to a durable call: the receivers of /async-function/.

The caller gets 202 once the call is durable, not before. A small request is kept in memory until
then; a body that is large, or whose length is unknown, goes to a file as it arrives.
"""

import asyncio
import hashlib
import time
from enum import Enum
from typing import Final, Protocol

from gateway.proxy.client_call import request_head
from gateway.proxy.headers import SERVED_BY, TEXT_TYPE
from gateway.proxy.routes import Route
from gateway.queue.blobs import ROW_BYTES, Blobs, BlobWriter
from gateway.queue.call import NewCall, Payload, new_ids
from gateway.queue.callback_targets import CallbackTargets
from gateway.queue.group_commit import GroupCommitWriter
from gateway.queue.store import DISK_IS_FULL, Duplicate
from gateway.types.errors import DISK_FULL, DiskFullError, InvalidRequestError, SluiceError
from sluice.http1.exchange import Exchange, Receiver

LONGEST_KEY: Final = 255
# How much of a large body collects before it is handed to a thread.
WRITE_BYTES: Final = 1024 * 1024


class Admission(Protocol):
    """The bounds of the queue, and the count of the calls in it."""

    def refusal(self) -> str:
        """Why no call is accepted now; empty while there is room."""

    def accepted(self, call: NewCall) -> None:
        """Called with each call once it is durable."""


class Submission:
    """Accepts calls for the queue.

    in_rows: bodies of every size go into the row, as gateways that share tables share no disk.
    """

    def __init__(
        self,
        admission: Admission,
        commit_writer: GroupCommitWriter,
        blobs: Blobs,
        targets: CallbackTargets,
        body_bytes: int,
        *,
        in_rows: bool,
    ) -> None:
        self.admission = admission
        self.commit_writer, self.blobs, self.targets = commit_writer, blobs, targets
        self.body_bytes, self.in_rows = body_bytes, in_rows
        self.new_id = new_ids()
        self.writes: set[asyncio.Task[None]] = set()

    def __call__(self, exchange: Exchange, route: Route, name: str, line: bytes) -> Receiver:
        """The receiver of a request for the function that the caller named `name`."""
        length = exchange.content_length
        if exchange.chunked or (length is not None and length > ROW_BYTES):
            return LargeRequest(self, exchange, route, name, line)
        return SmallRequest(self, exchange, route, name, line)


class SmallRequest:
    """A Receiver that keeps the body in memory and waits for the commit."""

    lines: bytes = b""

    def __init__(
        self, submission: Submission, exchange: Exchange, route: Route, name: str, line: bytes
    ) -> None:
        self.submission, self.exchange, self.route = submission, exchange, route
        self.name, self.line = name, line
        self.body = b""
        self.begin()

    def begin(self) -> None:
        """Ask for the body."""
        self.exchange.send_continue()

    def body_received(self, data: bytes) -> None:
        self.body = self.body + data if self.body else data

    def body_complete(self) -> None:
        self.submit(Payload(b"", self.body, "", len(self.body)), b"")

    def submit(self, body: Payload, digest: bytes) -> None:
        """Hand the complete request to the writer. digest: of a body that is in a file."""
        submission, exchange = self.submission, self.exchange
        try:
            full = submission.admission.refusal()
            if full:
                self.refuse(429, full)
                return
            call = self._call(body, digest)
        except InvalidRequestError as error:
            self.refuse(400, str(error))
            return
        if not exchange.done:
            submission.commit_writer.accept(call, self)
        else:
            self.discard()

    def _call(self, body: Payload, digest: bytes) -> NewCall:
        submission, exchange = self.submission, self.exchange
        callback = key = b""
        named = False
        for header, value in exchange.headers:
            if header == b"x-callback-url":
                callback = value
            elif header == b"idempotency-key":
                key = value
            elif header == b"x-call-id":
                named = True
        call, now = submission.new_id(), time.time_ns()
        identity = call.encode()
        if not named:
            exchange.headers.append((b"x-call-id", identity))
        if exchange.chunked:
            exchange.chunked = False
            exchange.headers.append((b"content-length", b"%d" % body.size))
        head, _ = request_head(exchange, self.line, now)
        self.lines = b"x-call-id: %b\r\nx-start-time: %d\r\n%b" % (identity, now, SERVED_BY)
        payload = Payload(head[:-2], body.body, body.blob, body.size)
        if not (callback or key):
            return NewCall(call, self.route.name, now / 1e9, payload)
        return self._rare(call, now / 1e9, payload, (callback, key, digest))

    def _rare(
        self, call: str, now: float, payload: Payload, given: tuple[bytes, bytes, bytes]
    ) -> NewCall:
        callback, key, digest = given
        url = callback.decode("latin-1")
        host = self.submission.targets.parse(url).key if url else ""
        if len(key) > LONGEST_KEY:
            raise InvalidRequestError(f"Idempotency-Key: expected at most {LONGEST_KEY} characters")
        if key:
            what = self.exchange.method.encode() + self.line
            digest = hashlib.sha256(
                what + (digest or hashlib.sha256(payload.body).digest())
            ).digest()
        return NewCall(
            call,
            self.route.name,
            now,
            payload,
            url,
            host,
            self.name if url else "",
            key.decode("latin-1"),
            digest if key else b"",
        )

    # For the writer.

    def committed(self, call: NewCall, duplicate: Duplicate | None) -> None:
        if duplicate is None:
            self.submission.admission.accepted(call)
            self.exchange.respond(202, self.lines, b"")
            return
        self.discard()
        if duplicate.same:
            lines = b"x-call-id: %b\r\n%b" % (duplicate.id.encode(), SERVED_BY)
            self.exchange.respond(202, lines, b"")
        else:
            text = f"Idempotency-Key: came before with another request, as call {duplicate.id}"
            self.refuse(409, text)

    def failed(self, _call: NewCall, error: SluiceError) -> None:
        self.not_queued(error)

    def not_queued(self, error: SluiceError) -> None:
        """Respond that the call was not accepted, and why."""
        # As OpenFaaS's gateway does, whatever the cause; a full disk has a status of its own.
        status = error.status if isinstance(error, DiskFullError) else SluiceError.status
        self.refuse(status, f"Error queuing request: {error}")

    def refuse(self, status: int, text: str) -> None:
        self.discard()
        self.exchange.respond(status, TEXT_TYPE + SERVED_BY, f"{text}\n".encode())

    def discard(self) -> None:
        """Remove what was stored: nothing, while the body is in memory."""

    def client_gone(self) -> None:
        """A call that is being committed is accepted: the caller may not have meant to cancel."""

    def writing_paused(self) -> None:
        """A response is one line."""

    def writing_resumed(self) -> None:
        """A response is one line."""


class Body(Enum):
    """Where the body of a large request stands."""

    INCOMPLETE = "more of it is to come"
    COMPLETE = "all of it came"
    ABANDONED = "the client left, or the request was refused: what was written is removed"


BODY_TRANSITIONS: Final = {
    Body.INCOMPLETE: frozenset({Body.COMPLETE, Body.ABANDONED}),
    Body.COMPLETE: frozenset({Body.ABANDONED}),
    Body.ABANDONED: frozenset[Body](),
}


class LargeRequest(SmallRequest):
    """A Receiver whose body goes to a file, a piece at a time.

    task: writes the pieces that came; while there is one, it continues when the state changes.
    """

    def __init__(
        self, submission: Submission, exchange: Exchange, route: Route, name: str, line: bytes
    ) -> None:
        self.pieces: list[bytes] = []
        self.held = self.size = 0
        self.state = Body.INCOMPLETE
        self.sha256 = hashlib.sha256()
        self.blob = f"{submission.new_id()}.request"
        self.writer: BlobWriter | None = None
        self.task: asyncio.Task[None] | None = None
        super().__init__(submission, exchange, route, name, line)

    def begin(self) -> None:
        if (self.exchange.content_length or 0) > self.submission.body_bytes:
            self._too_large()
        else:
            self.exchange.send_continue()

    def body_received(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.submission.body_bytes:
            self._too_large()
            return
        self.pieces.append(data)
        self.held += len(data)
        if self.held >= WRITE_BYTES and self.task is None:
            self._write()

    def body_complete(self) -> None:
        self._become(Body.COMPLETE)
        if self.task is None:
            self._write()

    def client_gone(self) -> None:
        if self.state is Body.INCOMPLETE:
            self._abandon()

    def _too_large(self) -> None:
        self._abandon()
        text = f"body over {self.submission.body_bytes} bytes\n"
        self.exchange.respond(413, TEXT_TYPE + SERVED_BY, text.encode())

    def _abandon(self) -> None:
        self._become(Body.ABANDONED)
        if self.task is None:
            self.discard()

    def _become(self, state: Body) -> None:
        if state not in BODY_TRANSITIONS[self.state]:
            raise RuntimeError(f"a body cannot become {state.name} after {self.state.name}")
        self.state = state

    def _write(self) -> None:
        """Have a thread write the pieces that came; reading pauses meanwhile."""
        self.exchange.pause_reading()
        self.task = asyncio.get_running_loop().create_task(self._write_pieces())
        self.submission.writes.add(self.task)
        self.task.add_done_callback(self.submission.writes.discard)

    async def _write_pieces(self) -> None:
        try:
            while self.pieces and self.state is not Body.ABANDONED:
                pieces, self.pieces, self.held = self.pieces, [], 0
                await asyncio.to_thread(self._append, b"".join(pieces))
            if self.state is Body.COMPLETE:
                await asyncio.to_thread(self._finish)
        except OSError as error:
            if self.state is not Body.ABANDONED:
                self._become(Body.ABANDONED)
            full = error.errno in DISK_FULL
            self.not_queued(DiskFullError(DISK_IS_FULL) if full else SluiceError(error.strerror))
        self.task = None
        match self.state:
            case Body.ABANDONED:
                self.discard()
            case Body.COMPLETE:
                await self._submit()
            case Body.INCOMPLETE:
                self.exchange.resume_reading()

    async def _submit(self) -> None:
        body = Payload(b"", b"", self.blob, self.size)
        if self.submission.in_rows or self.size <= ROW_BYTES:
            data = await asyncio.to_thread(self.submission.blobs.read, self.blob)
            body = Payload(b"", data, "", self.size)
            self.discard()
        self.submit(body, self.sha256.digest())

    def _append(self, data: bytes) -> None:
        if self.writer is None:
            self.writer = self.submission.blobs.writer(self.blob)
        self.writer.write(data)
        self.sha256.update(data)

    def _finish(self) -> None:
        if self.writer is None:
            self.writer = self.submission.blobs.writer(self.blob)
        self.writer.finish()

    def discard(self) -> None:
        if self.writer is not None:
            self.writer.discard()
            self.submission.blobs.remove([self.blob])
            self.writer = None
