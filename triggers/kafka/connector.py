"""Follows the catalog: a consumer for each function with topics, and a report of their lag."""

import asyncio
import logging
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from service.catalog import Listener
from service.errors import CallError
from service.gateway_client import DeployedFunction, FunctionCaller, FunctionResponse
from triggers.kafka.calls import Caller
from triggers.kafka.consumer import Consumer
from triggers.kafka.delivery import Caller as RecordCaller
from triggers.kafka.delivery import Delivery
from triggers.kafka.metrics import KafkaMetrics
from triggers.kafka.pipelines import PREFIX, PipelineCaller, Pipelines, subscriptions
from triggers.kafka.publisher import Publisher
from triggers.kafka.settings import KafkaSettings
from triggers.kafka.topics import Subscription, TopicMap
from triggers.metrics import TriggersMetrics
from triggers.settings import TriggersSettings

# On top of the drain: what the thread needs to commit, leave its group and close.
CLOSE_SECONDS: Final = 30.0
BROKEN_SECONDS: Final = 5.0
log = logging.getLogger(__name__)


class Gateway(FunctionCaller, Protocol):
    """The part of GatewayClient that the connector needs."""

    async def post(self, path: str, value: object) -> FunctionResponse:
        """Send JSON to the gateway's own API. Raises CallError."""


class Catalog(Protocol):
    """The part of Catalog that the connector needs."""

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with all functions whenever they change."""


class Member:
    """One subscription under way: its consumer's thread and its delivery."""

    def __init__(self, consumer: Consumer, delivery: Delivery, seconds: float) -> None:
        self.consumer, self._delivery, self._seconds = consumer, delivery, seconds
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Consume until `stop`, then drain, commit and leave the group."""
        delivering = asyncio.create_task(self._delivery.run())
        stopping = asyncio.create_task(self._stop.wait())
        self.consumer.start()
        try:
            await asyncio.wait((delivering, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.consumer.stop()
            # The delivery keeps running: the join waits for its calls.
            await asyncio.to_thread(self.consumer.join, self._seconds)
            stopping.cancel()
            delivering.cancel()
            await asyncio.wait((delivering, stopping))
        if not delivering.cancelled() and (error := delivering.exception()) is not None:
            raise error

    def stop(self) -> None:
        self._stop.set()


class Connector:
    """Kafka for one process; several processes share the partitions of each function's group.

    Raises SettingError for KAFKA_* variables that do not fit.
    """

    def __init__(
        self,
        settings: TriggersSettings,
        gateway: Gateway,
        catalog: Catalog,
        metrics: TriggersMetrics,
        pipelines: Pipelines | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._kafka = KafkaSettings.load(os.environ if environ is None else environ)
        self._timeout, self._gateway = settings.upstream_timeout, gateway
        # One name a process: the gateway adds up the lags that connectors report.
        self._signal_name = f"lag-{zlib.crc32(settings.process_name.encode()):08x}"
        self._metrics = KafkaMetrics(metrics.registry)
        self._publisher = Publisher(self._kafka.client())
        self._wanted = TopicMap()
        self._changed = asyncio.Event()
        self._members: dict[str, Member] = {}
        self._stopping = False
        self._pipelines = pipelines
        self._started: Mapping[str, Subscription] = {}
        catalog.subscribe(self.apply)
        if pipelines is not None:
            pipelines.subscribe(self._apply_pipelines)

    def apply(self, functions: Sequence[DeployedFunction]) -> None:
        """Start and stop consumers for a new list of functions."""
        known = self._wanted.refused
        self._wanted = TopicMap.of(functions)
        for name, reason in self._wanted.refused.items():
            if known.get(name) != reason:
                log.warning("event=function-refused function=%s reason=%s", name, reason)
        self._metrics.refused.set(len(self._wanted.refused))
        self._changed.set()

    def _apply_pipelines(self, _schedules: object) -> None:
        if self._pipelines is not None:
            self._started = subscriptions(self._pipelines.topics)
            self._changed.set()

    async def run(self) -> None:
        """Consume until cancelled; then drain, commit and leave every group."""
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._stopping = True
            self._changed.set()
            await serving
            raise

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                reporting = group.create_task(self._report())
                while not self._stopping:
                    await self._changed.wait()
                    self._changed.clear()
                    self._follow(group)
                reporting.cancel()
        finally:
            await self._publisher.close()

    def _follow(self, group: asyncio.TaskGroup) -> None:
        """Stop members whose subscription changed; start those that are missing."""
        wanted = {} if self._stopping else {**self._wanted.subscriptions, **self._started}
        for name, member in self._members.items():
            if wanted.get(name) != member.consumer.subscription:
                member.stop()
        for name, subscription in wanted.items():
            if name not in self._members:
                group.create_task(self._consume(name, subscription))

    async def _consume(self, name: str, subscription: Subscription) -> None:
        member = self._members[name] = self._member(subscription, self._caller(name, subscription))
        self._metrics.consumers.set(len(self._members))
        log.info("event=subscribed function=%s topics=%s", name, ",".join(subscription.topics))
        try:
            await member.run()
        except Exception:
            # Records that were not done are not committed: the next consumer gets them again.
            log.exception("event=delivery-broken function=%s", name)
            await asyncio.sleep(BROKEN_SECONDS)
        finally:
            del self._members[name]
            self._metrics.forget(name, subscription.topics)
            self._metrics.consumers.set(len(self._members))
            log.info("event=unsubscribed function=%s", name)
            self._changed.set()  # it may be wanted again, with other options

    def _caller(self, name: str, subscription: Subscription) -> RecordCaller:
        if self._pipelines is not None and name.startswith(PREFIX):
            return PipelineCaller(subscription, self._pipelines)
        return Caller(subscription, self._gateway, self._timeout)

    def _member(self, subscription: Subscription, caller: RecordCaller) -> Member:
        delivery = Delivery(subscription, caller, self._publisher, self._metrics)
        failed: Callable[[], None] = self._metrics.errors.labels(subscription.target).inc
        consumer = Consumer(subscription, self._kafka, delivery, failed)
        return Member(consumer, delivery, self._kafka.drain_timeout + CLOSE_SECONDS)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._kafka.signal_interval)
            signals: list[dict[str, object]] = []
            for name, member in self._members.items():
                lag = member.consumer.lag
                for topic, records in lag.items():
                    self._metrics.lag.labels(name, topic).set(records)
                if lag and not name.startswith(PREFIX):
                    total = sum(lag.values())
                    signals.append({"function": name, "signal": self._signal_name, "value": total})
            if signals:
                await self._signal(signals)

    async def _signal(self, signals: list[dict[str, object]]) -> None:
        try:
            response = await self._gateway.post("/system/signals", {"signals": signals})
        except CallError as error:
            log.debug("event=signals-not-sent error=%s", error)
            return
        if response.status >= 400 and response.status != 404:  # 404: a gateway that knows none
            text = response.body[:200].decode(errors="replace").strip()
            log.warning("event=signals-refused status=%d reason=%s", response.status, text)
