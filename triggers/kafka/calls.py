"""Records called through the gateway: one call a record, or one for a batch of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from service.errors import CallTimeoutError, GatewayUnavailableError, ResponseTooLargeError
from service.gateway_client import FunctionCaller, FunctionResponse
from triggers.kafka import batches
from triggers.kafka.headers import Record, batch_headers, call_headers
from triggers.kafka.outcomes import Done, Failed, Outcome, Unavailable
from triggers.kafka.topics import Subscription

# The gateway says these for itself when no replica took the call; a function may say them too.
NOT_TAKEN: Final = frozenset({404, 429, 503})
GATEWAYS_OWN: Final = "x-openfaas-internal"
LONGEST_REASON: Final = 500
LONGEST_WAIT: Final = 60.0
DONE: Final = Done(b"", "")


class Caller:
    """Calls one subscription's function. timeout: seconds, where the options name none."""

    def __init__(self, subscription: Subscription, gateway: FunctionCaller, timeout: float) -> None:
        self._subscription, self._gateway = subscription, gateway
        options = subscription.options
        self._options = options
        self._timeout = options.timeout or timeout
        self._asynchronous = options.mode == "async"
        self._wants_results = bool(options.result_topic)

    async def call(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """One outcome a record; a single Unavailable when none of them was taken."""
        if self._options.batch_size == 1:
            return (await self._call_one(records[0]),)
        return await self._call_batch(records)

    async def _call_one(self, record: Record) -> Outcome:
        group, kind = self._subscription.group, self._options.content_type
        response = await self._ask(call_headers(record, kind, group), record.value or b"")
        if not isinstance(response, FunctionResponse):
            return response
        if not self._wants_results:
            return DONE
        return Done(response.body, response.header("content-type"))

    async def _call_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        elements: list[bytes] = []
        fit: list[Record] = []
        spoilt: dict[int, Outcome] = {}
        for record in records:
            try:
                elements.append(batches.element(record, self._options.content_type))
                fit.append(record)
            except batches.NotAnElementError as error:
                spoilt[record.offset] = Failed(str(error), permanent=True)
        outcomes = await self._call_array(fit, elements) if fit else ()
        if isinstance(outcomes, Unavailable):
            return (outcomes,)
        called = iter(outcomes)
        return [spoilt.get(record.offset) or next(called) for record in records]

    async def _call_array(
        self, records: Sequence[Record], elements: list[bytes]
    ) -> Sequence[Outcome] | Unavailable:
        headers = batch_headers(records, self._subscription.group)
        response = await self._ask(headers, batches.array(elements))
        if isinstance(response, Unavailable):
            return response
        if isinstance(response, FunctionResponse):
            try:
                return batches.outcomes(response.body, len(records), self._wants_results)
            except ValueError as error:
                response = Failed(str(error), response.status)
        return [replace(response, together=len(records) > 1)] * len(records)

    async def _ask(
        self, headers: Sequence[tuple[str, str]], body: bytes
    ) -> FunctionResponse | Failed | Unavailable:
        try:
            response = await self._gateway.call(
                self._subscription.target,
                headers=headers,
                body=body,
                timeout=self._timeout,
                asynchronous=self._asynchronous,
            )
        except GatewayUnavailableError as error:
            return Unavailable(str(error))
        except (CallTimeoutError, ResponseTooLargeError) as error:
            return Failed(str(error))
        return response if response.succeeded else self._refusal(response)

    def _refusal(self, response: FunctionResponse) -> Failed | Unavailable:
        reason = (
            f"{response.status}: {response.body[:LONGEST_REASON].decode(errors='replace').strip()}"
        )
        refused = response.status in NOT_TAKEN and response.header(GATEWAYS_OWN)
        if refused or self._asynchronous:
            return self._not_taken(response, reason)
        permanent = response.status not in self._options.retry_codes
        return Failed(reason, response.status, permanent)

    def _not_taken(self, response: FunctionResponse, reason: str) -> Failed | Unavailable:
        if response.status < 500 and response.status not in NOT_TAKEN:
            return Failed(reason, response.status, permanent=True)  # 400, 413: never to be taken
        text = response.header("retry-after")
        return Unavailable(reason, min(float(text), LONGEST_WAIT) if text.isdecimal() else 0.0)
