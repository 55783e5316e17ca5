"""The composition root: every object of the gateway is made and joined here."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from gateway import exporter
from gateway.api import application as system
from gateway.api.control import About, ControlPlane
from gateway.api.openfaas import build
from gateway.api.sluice import calls
from gateway.auth import credentials
from gateway.auth.authenticator import Auth
from gateway.auth.credentials import REGISTRY_FILE, Credentials
from gateway.autoscaling.autoscaler import Autoscaler
from gateway.autoscaling.function_scaler import FunctionScaler
from gateway.autoscaling.signals import Signals
from gateway.metrics import Metrics
from gateway.ports import explain
from gateway.providers import Provider, table
from gateway.proxy.activator import Activator, Listeners
from gateway.proxy.connection_pool import ConnectionPool
from gateway.proxy.invoker import Invoker
from gateway.proxy.router import Router
from gateway.queue.service import CallQueue
from gateway.scrape_targets import ScrapeTargets
from gateway.settings import GatewaySettings
from gateway.types.function import UnixAddress
from gateway.types.ids import FunctionId
from sluice.http1.asgi import AsgiApplication
from sluice.http1.server import Limits, Server
from sluice.settings.sockets import socket_address
from sluice.version import installed_version

if TYPE_CHECKING:
    from gateway.building.target import BuildTarget

LOG: Final = logging.getLogger(__name__)

# A scrape that is under way when the gateway stops.
EXPORTER_GRACE: Final = 2.0
# Objects made at start-up live on; those that calls make die young (ADR 0002).
GC_THRESHOLDS: Final = (50_000, 20, 20)
# The queue's writer waits this long for a busy loop to hand the interpreter over, some times a
# group: 2.5x the calls accepted of Python's 5 ms (ADR 0010).
SWITCH_SECONDS: Final = 0.0005


class Gateway:
    """All parts of one gateway. `port` and `metrics_port` are known once it has started."""

    def __init__(self, settings: GatewaySettings, provider: Provider) -> None:
        secrets = _credentials(settings)
        self.settings, self._provider = settings, provider
        self._auth = Auth(secrets, enabled=settings.basic_auth)
        self._services = {
            "registry": UnixAddress(socket_address(settings.registry_path)),
            "triggers": UnixAddress(socket_address(settings.triggers_path)),
        }
        self._shared = {REGISTRY_FILE: secrets.registry_token} if secrets.registry_token else {}
        self._open = AsyncExitStack()
        self._make_call_path()
        self._make_listeners()
        self.port = self.metrics_port = 0

    def _make_call_path(self) -> None:
        settings = self.settings
        self._registry = _process_registry()
        self._metrics = Metrics()
        self._registry.register(self._metrics)
        connection_pool = ConnectionPool(
            settings.connect_timeout, settings.kept_connections, settings.kept_timeout
        )
        self._activator = Activator(
            Listeners(self._wake, self._call_queued, connection_pool.retire),
            self._metrics,
            settings.wait_timeout,
            settings.waiting_calls,
        )
        self._function_scaler = FunctionScaler(
            self._provider, self._activator.waiting, self._activator.wake_failed
        )
        self._invoker = Invoker(self._activator, connection_pool, self._metrics, settings)
        self._targets = ScrapeTargets(self._services, settings.target_timeout)
        self.queue = CallQueue(self._invoker.context, settings)
        self._registry.register(self.queue.metrics)
        self._signals = Signals(time.monotonic, self.queue.pending)
        self._autoscaler = Autoscaler(self._provider, self._activator.load, self._signals)

    def _make_listeners(self) -> None:
        settings = self.settings
        self._control = self._make_control()
        routers = [calls.routes(self._control, self.queue)]
        if self._provider.target is not None:
            routers.append(_build_routes(self._control, self._provider.target))
        self._api = AsgiApplication(system.application(self._control, self._registry, *routers))
        plane = Router(
            self._invoker, self._auth, self._services, self._api, settings, self.queue.submission
        )
        limits = _limits(settings)
        self._server = Server(plane, limits)
        address = f"{settings.host}:{settings.metrics_port}"
        pages = exporter.application(self._registry, self._targets, address)
        self._exporter = AsgiApplication(pages)
        self._metrics_server = Server(self._exporter, limits)

    def _make_control(self) -> ControlPlane:
        about = About(release=installed_version(), sha=self.settings.commit)
        return ControlPlane(
            settings=self.settings,
            auth=self._auth,
            provider=self._provider,
            about=about,
            invocation_count=self._invocations,
            shared_secrets=self._shared,
            signals=self._signals,
        )

    async def start(self) -> None:
        """Bind the ports, restore what was deployed, then serve.

        Raises SluiceError naming a port that cannot be had, before anything is started.
        """
        settings = self.settings
        self._open.push_async_callback(self._provider.close)
        listener = self._bind(settings.port, "SLUICE_PORT")
        metrics_listener = self._bind(settings.metrics_port, "SLUICE_METRICS_PORT")
        await self._provider.start()
        # In this order: the autoscaler reads from the activator what it steers.
        for listen in (
            self._activator.apply,
            self._targets.apply,
            self._autoscaler.apply,
            self.queue.apply,
        ):
            self._open.callback(self._provider.watch(listen))
        await self._share_secrets()
        self._open.push_async_callback(self.queue.close)
        await self.queue.start()
        self._open.push_async_callback(self._server.close, 0.0)
        self._open.push_async_callback(self._metrics_server.close, 0.0)
        self.port = listener.getsockname()[1]
        self.metrics_port = metrics_listener.getsockname()[1]
        await self._metrics_server.listen_socket(metrics_listener)
        await self._server.listen_socket(listener)

    async def loops(self) -> None:
        """Run the loops of all parts until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._invoker.run())
            group.create_task(self._function_scaler.run())
            group.create_task(self._autoscaler.run())
            group.create_task(self.queue.run())

    async def drain(self) -> None:
        """Take no new connection, let calls under way end, cut those that take too long."""
        self._control.stopping.set()
        cut = await self._server.close(self.settings.drain_timeout)
        if cut:
            LOG.warning("cut connections=%d after_seconds=%g", cut, self.settings.drain_timeout)
        await self.queue.drain(self.settings.drain_timeout)
        await self._metrics_server.close(EXPORTER_GRACE)

    async def close(self) -> None:
        """Release everything, whatever state it is in."""
        self._control.stopping.set()
        await self._open.aclose()
        await self._api.close()
        await self._exporter.close()

    def _bind(self, port: int, variable: str) -> socket.socket:
        """A socket that has the port and does not listen yet."""
        host = self.settings.host
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
            self._open.callback(listener.close)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise explain(error, host, port, variable) from error
        return listener

    async def _share_secrets(self) -> None:
        """Give every namespace the token with which functions reach the registry."""
        for namespace in await self._provider.namespaces():
            for name, value in self._shared.items():
                await self._provider.put_secret(namespace.name, name, value)

    def _wake(self, function: FunctionId) -> None:
        """The activator's listener; the function scaler, which reads the activator, comes later."""
        self._function_scaler.wake(function)

    def _call_queued(self, function: FunctionId) -> None:
        """The activator's listener; the autoscaler, which reads the activator, comes later."""
        self._autoscaler.call_queued(function)

    def _invocations(self, function: FunctionId) -> float:
        return float(self._metrics.invocations(str(function)))


@asynccontextmanager
async def create(
    settings: GatewaySettings, provider: Provider | None = None
) -> AsyncIterator[Gateway]:
    """A gateway that serves while the block runs, then drains and closes.

    provider: where functions run, not started; by default the one that the settings name. Raises
    SettingError for an unknown one, SluiceError.
    """
    gateway = Gateway(settings, provider or table.create(settings))
    try:
        await gateway.start()
        async with asyncio.TaskGroup() as group:
            loops = group.create_task(gateway.loops())
            yield gateway
            await gateway.drain()
            loops.cancel()
    finally:
        await gateway.close()


async def serve(settings: GatewaySettings, ready: Callable[[Gateway], None]) -> None:
    """Run a gateway until SIGTERM or SIGINT; a second one does not wait for calls under way.

    ready: called once it serves.
    """
    stop = asyncio.Event()
    this = asyncio.current_task()

    def signalled() -> None:
        if stop.is_set() and this is not None:
            this.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    with contextlib.suppress(asyncio.CancelledError):
        async with create(settings) as gateway:
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            sys.setswitchinterval(SWITCH_SECONDS)
            ready(gateway)
            await stop.wait()


def _build_routes(control: ControlPlane, target: "BuildTarget") -> APIRouter:
    from gateway.building.builder import Builder  # noqa: PLC0415 - uv is only there to build

    builder = Builder(control.settings, target)
    return build.routes(control, builder, control.settings.data_dir / "uploads")


def _credentials(settings: GatewaySettings) -> Credentials:
    """The mounted ones as they are, or those of the data folder, made when missing."""
    if settings.secret_mount_path:
        return credentials.read(settings.secrets_dir)
    return credentials.ensure(settings.secrets_dir)


def _process_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _limits(settings: GatewaySettings) -> Limits:
    """Limits of heads and idle connections; each receiver of bodies has a limit of its own."""
    return Limits(
        head_bytes=settings.head_bytes,
        head_fields=settings.head_fields,
        header_timeout=settings.header_timeout,
        idle_timeout=settings.idle_timeout,
    )
