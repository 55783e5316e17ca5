"""The Prometheus series of a service, in a separate Prometheus registry."""

import asyncio

from fastapi import Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)


class ServiceMetrics:
    """The series of the process itself; a service adds its own series to `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def render(self) -> bytes:
        """The series in the Prometheus text format."""
        return generate_latest(self.registry)

    async def response(self) -> Response:
        """The route `/metrics`."""
        text = await asyncio.to_thread(self.render)
        return Response(text, media_type=CONTENT_TYPE_LATEST)
