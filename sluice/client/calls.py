"""Calls of functions: at once, or queued by the gateway."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sluice.client.connection import Connection, Request, segment
from sluice.client.errors import WaitTimeoutError
from sluice.client.records import read, value_of
from sluice.transport import Response

FINISHED: Final = frozenset({"succeeded", "dead", "cancelled"})
FIRST_POLL: Final = 0.02
LONGEST_POLL: Final = 1.0
Query = Mapping[str, str | int | None]


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A call in the queue. state: queued, running, succeeded, dead or cancelled.

    status: of the last attempt, None before there was one. reason: why it is dead or waits again.
    """

    id: str
    function: str
    state: str
    attempts: int
    accepted_at: str
    status: int | None = None
    seconds: float | None = None
    reason: str = ""
    finished_at: str = ""

    @property
    def finished(self) -> bool:
        """Whether it will not run again by itself."""
        return self.state in FINISHED


class Calls:
    """`client.calls`. A function is named NAME or NAME.NAMESPACE."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def invoke(  # noqa: PLR0913 (each is a part of an HTTP request)
        self,
        function: str,
        body: bytes | None = None,
        *,
        document: Any = None,
        method: str = "POST",
        path: str = "",
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """The function's response, which is a 2xx.

        body: sent as it is; document: sent as JSON. path: below the function, such as `/rows`.
        timeout: seconds without a byte before it gives up. A POST is sent once, unless `headers`
        holds an Idempotency-Key. Raises StatusError with the function's own status and text.
        """
        target = f"/function/{segment(function)}{path}"
        return self._connection.request(
            Request(
                method,
                target,
                query or {},
                body,
                document,
                headers=headers or {},
                timeout=timeout,
            )
        )

    def submit(  # noqa: PLR0913 (each is a part of an HTTP request)
        self,
        function: str,
        body: bytes | None = None,
        *,
        document: Any = None,
        path: str = "",
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        callback_url: str = "",
        key: str = "",
    ) -> str:
        """Queue a call; its id, once the call is on the gateway's disk.

        callback_url: where the response is posted. key: the same key for the same function gives
        the first call's id; without one each call of this method is a call of its own.
        """
        more = {"X-Callback-Url": callback_url} if callback_url else {}
        request = Request(
            "POST",
            f"/async-function/{segment(function)}{path}",
            query or {},
            body,
            document,
            key=key or uuid.uuid4().hex,
            headers={**(headers or {}), **more},
        )
        return str(value_of(self._connection.request(request).headers, "x-call-id"))

    def get(self, call: str) -> QueuedCall:
        """A queued call as it is now. Raises NotFoundError."""
        found = self._connection.json(Request("GET", f"/system/calls/{segment(call)}"), dict)
        return read(QueuedCall, found, camel=True)

    def list(
        self, function: str = "", state: str = "", limit: int = 100, after: str = ""
    ) -> tuple[QueuedCall, ...]:
        """Queued calls, newest first; after: the last id of the page before."""
        query: Query = {"function": function, "state": state, "limit": limit, "after": after}
        found = self._connection.json(Request("GET", "/system/calls", query), list)
        return tuple(read(QueuedCall, one, camel=True) for one in found)

    def wait(self, call: str, timeout: float | None = None) -> QueuedCall:
        """The call once it is finished, whatever came of it. Raises WaitTimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_POLL
        while not (found := self.get(call)).finished:
            if deadline is not None and time.monotonic() > deadline:
                raise WaitTimeoutError(f"call {call} is {found.state} after {timeout:g} s")
            # The REST API has no way to wait for a change.
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_POLL)
        return found

    def result(self, call: str) -> Response:
        """The function's last response, whatever its status. Raises NotFoundError without one."""
        response = self._connection.request(Request("GET", f"/system/calls/{segment(call)}/result"))
        status = int(response.headers.get("x-function-status", response.status))
        return Response(status, response.headers, response.body)

    def replay(self, call: str) -> None:
        """Queue a finished call again, under the same id."""
        self._connection.request(Request("POST", f"/system/calls/{segment(call)}/replay"))

    def cancel(self, call: str) -> None:
        """Cancel a call that waits. Raises ConflictError where it runs or is finished."""
        self._connection.request(Request("DELETE", f"/async-function/{segment(call)}"))

    def delete(self, call: str) -> None:
        """Forget a call and its response. Raises ConflictError where it runs."""
        self._connection.request(Request("DELETE", f"/system/calls/{segment(call)}"))
