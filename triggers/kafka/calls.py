"""Records called through the gateway: one call a record, or one for a batch of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from triggers.answer import Answer
from triggers.errors import AnswerTooLargeError, CallTimeoutError, GatewayAwayError
from triggers.gateway import FunctionCaller
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
        answer = await self._ask(call_headers(record, kind, group), record.value or b"")
        if not isinstance(answer, Answer):
            return answer
        if not self._wants_results:
            return DONE
        return Done(answer.body, answer.header("content-type"))

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
        answer = await self._ask(headers, batches.array(elements))
        if isinstance(answer, Unavailable):
            return answer
        if isinstance(answer, Answer):
            try:
                return batches.outcomes(answer.body, len(records), self._wants_results)
            except ValueError as error:
                answer = Failed(str(error), answer.status)
        return [replace(answer, together=len(records) > 1)] * len(records)

    async def _ask(
        self, headers: Sequence[tuple[str, str]], body: bytes
    ) -> Answer | Failed | Unavailable:
        try:
            answer = await self._gateway.call(
                self._subscription.target,
                headers=headers,
                body=body,
                timeout=self._timeout,
                asynchronous=self._asynchronous,
            )
        except GatewayAwayError as error:
            return Unavailable(str(error))
        except (CallTimeoutError, AnswerTooLargeError) as error:
            return Failed(str(error))
        return answer if answer.succeeded else self._refusal(answer)

    def _refusal(self, answer: Answer) -> Failed | Unavailable:
        reason = f"{answer.status}: {answer.body[:LONGEST_REASON].decode(errors='replace').strip()}"
        refused = answer.status in NOT_TAKEN and answer.header(GATEWAYS_OWN)
        if refused or self._asynchronous:
            return self._not_taken(answer, reason)
        permanent = answer.status not in self._options.retry_codes
        return Failed(reason, answer.status, permanent)

    def _not_taken(self, answer: Answer, reason: str) -> Failed | Unavailable:
        if answer.status < 500 and answer.status not in NOT_TAKEN:
            return Failed(reason, answer.status, permanent=True)  # 400, 413: never to be taken
        text = answer.header("retry-after")
        return Unavailable(reason, min(float(text), LONGEST_WAIT) if text.isdecimal() else 0.0)
