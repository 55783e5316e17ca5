"""The metrics port: the gateway's own series, and scrapes of replicas and services behind it."""

import asyncio
import re
from collections.abc import Iterable
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway.metrics import exposition
from gateway.scrape_targets import ScrapeTargets
from gateway.types.errors import SluiceError

# Rendering 2,000 samples takes 10 ms: from here on calls would notice.
SAMPLES_ON_LOOP: Final = 1000
HOST: Final = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


def application(registry: CollectorRegistry, targets: ScrapeTargets, address: str) -> Starlette:
    """The ASGI application of the metrics port.

    address: `host:port` under which /sd names this listener when the request names no host.
    """
    exporter = _Exporter(registry, targets, address)
    app = Starlette(
        routes=[
            Route("/metrics", exporter.metrics, methods=["GET"]),
            Route("/healthz", exporter.healthz, methods=["GET"]),
            Route("/sd", exporter.discovery, methods=["GET"]),
            Route("/targets/{identity}/metrics", exporter.target, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    return app


class _Exporter:
    def __init__(self, registry: CollectorRegistry, targets: ScrapeTargets, address: str) -> None:
        self._registry, self._targets, self._address = registry, targets, address

    async def metrics(self, request: Request) -> Response:
        return Response(await render(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def healthz(self, request: Request) -> Response:
        return PlainTextResponse("OK")

    async def discovery(self, request: Request) -> Response:
        """Prometheus http_sd: this listener once for each target, with the target's own path."""
        host = request.headers.get("host", "")
        address = host if HOST.fullmatch(host) else self._address
        return JSONResponse(
            [
                {
                    "targets": [address],
                    "labels": {
                        **target.labels,
                        "__metrics_path__": f"/targets/{target.id}/metrics",
                        "instance": target.id,
                    },
                }
                for target in self._targets.all()
            ]
        )

    async def target(self, request: Request) -> Response:
        try:
            kind, text = await self._targets.scrape(request.path_params["identity"])
        except SluiceError as error:
            return PlainTextResponse(str(error), status_code=error.status)
        return Response(text, headers={"content-type": kind.decode("latin-1")})


class _Families(Collector):
    """Series as they were at one moment, to be rendered on another thread."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def render(registry: CollectorRegistry) -> bytes:
    """The text format of `registry`, read at once; rendered on a thread when it is long."""
    families = list(registry.collect())
    snapshot = CollectorRegistry(auto_describe=False)
    snapshot.register(_Families(families))
    if sum(len(family.samples) for family in families) < SAMPLES_ON_LOOP:
        return exposition(snapshot)
    return await asyncio.to_thread(exposition, snapshot)


def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = "404 page not found\n" if status == 404 else ""
    return PlainTextResponse(text, status_code=status)
