"""The REST API of the triggers process, behind the gateway at /triggers/."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from pipelines.api.routes import Routes
from pipelines.service import PipelineService
from pipelines.settings import PipelineSettings
from service.clock import time_text
from service.errors import install_errors
from service.identity import OPEN_PATHS, UNAUTHENTICATED, identity_in
from triggers.cron.source import CronSource
from triggers.metrics import TriggersMetrics

Json = dict[str, Any]
Limit = Annotated[int, Query(ge=1, le=1000)]


def application(
    settings: PipelineSettings,
    cron: CronSource,
    pipelines: PipelineService,
    metrics: TriggersMetrics,
) -> FastAPI:
    """The ASGI application of one process."""
    app = FastAPI(title="Sluice triggers", docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_guard)
    install_errors(app)

    async def healthz() -> Json:
        return {
            "status": "ok",
            "pipelines": len(pipelines.definitions.pipelines),
            "version": pipelines.definitions.version,
        }

    async def schedules(limit: Limit = 100, function: str = "") -> Json:
        return cron_view(cron, list(await cron.history(limit, function)))

    app.add_api_route("/healthz", healthz)
    app.add_api_route("/metrics", metrics.response)
    app.add_api_route("/cron", schedules)
    app.include_router(Routes(settings, pipelines).router)
    return app


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what did not come through the gateway as its administrator."""
    identity = identity_in(request.scope["headers"])
    if request.url.path in OPEN_PATHS or identity == "admin":
        return await call_next(request)
    if identity == "function":
        text = "a function's token opens /registry/ only"
        return JSONResponse({"error": text}, 403)
    return JSONResponse({"error": UNAUTHENTICATED}, 401)


def cron_view(cron: CronSource, history: list[Mapping[str, Any]]) -> Json:
    """What is called by schedule, what never is and why, and the last fire times."""
    return {
        "schedules": [
            {
                "id": entry.id,
                entry.kind: entry.target,
                "schedule": entry.schedule.text,
                "timezone": entry.schedule.zone,
                "misfire": entry.misfire,
                "async": entry.asynchronous,
                "next": time_text(cron.next_fire(entry)),
            }
            for entry in cron.entries.values()
        ],
        "errors": [
            {"function": bad.target, "schedule": bad.text, "error": bad.error} for bad in cron.bad
        ],
        "history": [
            {
                "schedule": row["schedule"],
                "target": row["target"],
                "fire_time": time_text(row["fire_time"]),
                "state": row["state"],
                "started_at": time_text(row["started_at"]),
                "seconds": row["seconds"],
                "status": row["status"],
                "error": row["error"],
            }
            for row in history
        ],
    }
