"""Providers with what comes with each: how it starts, what it says of itself, its builder."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateway.api.openfaas.build_events import Builder
from gateway.building.builder import Builder as EmbeddedBuilder
from gateway.providers import Provider
from gateway.providers.embedded import EmbeddedProvider
from gateway.providers.embedded.bundle_target import BundleTarget
from gateway.providers.embedded.bundles import Bundles
from gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Backend:
    """A provider ready to be started.

    name, orchestration: as /system/info tells them. start: brings back what was deployed. close:
    ends what was started of it. prune: removes what no deployment uses.
    """

    provider: Provider
    name: str
    orchestration: str
    start: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    isolation: Callable[[], str]
    builder: Builder | None = None
    prune: Callable[[], Awaitable[dict[str, Any]]] | None = None


def embedded(settings: GatewaySettings) -> Backend:
    """Functions as processes of this machine, built by this gateway."""
    bundles = Bundles(settings.data_dir)
    provider = EmbeddedProvider(settings, bundles)
    started = False

    async def start() -> None:
        nonlocal started
        await provider.start()
        started = True

    async def close() -> None:
        try:
            if started:
                await provider.close()
        finally:
            bundles.close()

    async def prune() -> dict[str, Any]:
        removed = await asyncio.to_thread(bundles.prune, provider.digests_in_use())
        return {
            "bundles": removed.bundles,
            "environments": removed.environments,
            "freedBytes": removed.freed_bytes,
        }

    return Backend(
        provider=provider,
        name="sluice-embedded",
        orchestration="embedded",
        start=start,
        close=close,
        isolation=lambda: provider.isolation,
        builder=EmbeddedBuilder(settings, BundleTarget(bundles)),
        prune=prune,
    )
