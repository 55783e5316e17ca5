"""Delivers responses to the callers' callback URLs: durable, retried, without redirects."""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable
from typing import Final

from gateway.proxy.headers import USER_AGENT
from gateway.queue.blobs import Blobs
from gateway.queue.call import Delivered, Delivery
from gateway.queue.callback_targets import CallbackTarget, CallbackTargets, parse_url
from gateway.queue.dispatcher import Dispatcher
from gateway.queue.group_commit import GroupCommitWriter
from gateway.settings import GatewaySettings
from gateway.types.errors import ForbiddenError, SluiceError, UpstreamError
from sluice.backoff import delay, full_jitter
from sluice.http1.client import ClientConnection
from sluice.http1.errors import Http1Error

LOG: Final = logging.getLogger(__name__)

AT_ONCE: Final = 64
HOST_AT_ONCE: Final = 8
# Bodies from files in memory at once.
LARGE_AT_ONCE: Final = 2
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 300.0
CALL_ID: Final = re.compile(rb"\r\nx-call-id: ([^\r]*)", re.IGNORECASE)
# Headers of the response that the callback replaces by its own.
DROPPED: Final = frozenset(
    {
        b"content-length",
        b"host",
        b"authorization",
        b"x-call-id",
        b"x-function-name",
        b"x-function-status",
        b"x-duration-seconds",
        b"date",
    }
)


class Callbacks:
    """The queue's side that calls back. attempted: called with the state after each attempt."""

    def __init__(
        self,
        commit_writer: GroupCommitWriter,
        blobs: Blobs,
        targets: CallbackTargets,
        settings: GatewaySettings,
        attempted: Callable[[str], None],
    ) -> None:
        self._commit_writer, self._blobs, self._targets = commit_writer, blobs, targets
        self._seconds: float = settings.callback_timeout
        self._attempts: int = settings.callback_attempts
        self.dispatcher = Dispatcher(
            AT_ONCE, lambda _host: HOST_AT_ONCE, self._begin, commit_writer.lease_callbacks
        )
        self._attempted = attempted
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Cancel the attempts under way; they are repeated after the next start."""
        self.dispatcher.stop()
        for task in self._tasks:
            task.cancel()

    def _begin(self, delivery: Delivery) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            reason = await self._post(delivery)
        finally:
            self.dispatcher.ended(delivery.host)
        state, due, now = "delivered", 0.0, time.time()
        if reason:
            left = delivery.attempt < self._attempts
            state = "owed" if left else "failed"
            due = now + delay(delivery.attempt, FIRST_WAIT, LONGEST_WAIT, full_jitter)
            log = LOG.info if left else LOG.warning
            log(
                "callback %s call=%s attempt=%d error=%s",
                state,
                delivery.id,
                delivery.attempt,
                reason,
            )
        self._attempted(state)
        self._commit_writer.deliver(Delivered(delivery, state, due, reason))

    async def _post(self, delivery: Delivery) -> str:
        """Empty when the callback was delivered, else why not."""
        response = delivery.response
        try:
            target = parse_url(delivery.url)
            if response is None or not response.blob:
                body = response.body if response is not None else b""
                return await self._send(target, delivery, body)
            async with self._large:
                body = await asyncio.to_thread(self._blobs.read, response.blob)
                return await self._send(target, delivery, body)
        except TimeoutError:
            return f"no answer within {self._seconds:g} s"
        except (OSError, SluiceError, Http1Error) as error:
            return str(error) or type(error).__name__

    async def _send(self, target: CallbackTarget, delivery: Delivery, body: bytes) -> str:
        async with asyncio.timeout(self._seconds):
            connection = await self._connect(target)
            status = asyncio.get_running_loop().create_future()
            try:
                connection.send(_request(target, delivery, body), _Status(status))
                code = await status
            finally:
                connection.abort()
        return "" if 200 <= code < 300 else f"answered {code}"

    async def _connect(self, target: CallbackTarget) -> ClientConnection:
        """A connection to the first allowed address of the host that accepts one.

        The name is resolved once, so the address that was checked is the one connected to.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(target.host, target.port, type=1)
        addresses = [info[4][0] for info in found]
        allowed = [each for each in addresses if self._targets.allows(str(each))]
        if not allowed:
            raise ForbiddenError(
                f"{target.host}: no address among the allowed targets, got {addresses[0]}"
            )
        failure: OSError = ConnectionError("no address")
        secure = ssl.create_default_context() if target.secure else None
        for address in allowed:
            try:
                _, connection = await loop.create_connection(
                    ClientConnection,
                    str(address),
                    target.port,
                    ssl=secure,
                    server_hostname=target.host if secure else None,
                )
            except OSError as error:
                failure = error
            else:
                return connection
        raise failure


class _Status:
    """A ResponseListener that keeps only the status."""

    def __init__(self, status: "asyncio.Future[int]") -> None:
        self._status = status

    def response_started(
        self, status: int, _reason: bytes, _headers: list[tuple[bytes, bytes]], _length: int | None
    ) -> None:
        if not self._status.done():
            self._status.set_result(status)

    def response_body(self, data: bytes) -> None:
        """The body is dropped."""

    def response_complete(self, reusable: bool) -> None:
        """The status was in the head."""

    def response_failed(self, error: Exception, nothing_sent: bool) -> None:
        if not self._status.done():
            self._status.set_exception(UpstreamError(str(error)))

    def sending_paused(self) -> None:
        """The request is in memory complete: there is nothing to hold back."""

    def sending_resumed(self) -> None:
        """See `sending_paused`."""


def _request(target: CallbackTarget, delivery: Delivery, body: bytes) -> bytes:
    """The POST of openfaas.md section 1.5."""
    response = delivery.response
    lines = [] if response is None else _kept_lines(response.head)
    named = CALL_ID.search(delivery.request_head)
    call = named[1] if named else delivery.id.encode()
    status = delivery.status if response is not None else 503
    host = f"[{target.host}]" if ":" in target.host else target.host
    lines += [
        f"host: {host}:{target.port}".encode(),
        b"x-call-id: " + call,
        b"x-function-name: " + delivery.name.encode(),
        b"x-function-status: %d" % status,
        b"x-duration-seconds: %.6f" % delivery.seconds,
        b"content-length: %d" % len(body),
    ]
    if not any(line.startswith(b"user-agent:") for line in lines):
        lines.append(b"user-agent: " + USER_AGENT)
    if target.authorization:
        lines.append(b"authorization: " + target.authorization)
    return b"POST %b HTTP/1.1\r\n%b\r\n\r\n%b" % (target.path, b"\r\n".join(lines), body)


def _kept_lines(head: bytes) -> list[bytes]:
    lines = head.removesuffix(b"\r\n").split(b"\r\n") if head else []
    return [line for line in lines if line.partition(b":")[0] not in DROPPED]
