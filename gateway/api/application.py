"""The REST API as one ASGI application."""

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from gateway.api import failures
from gateway.api.control import ControlPlane
from gateway.api.guard import Guard
from gateway.api.measure import Measure
from gateway.api.openfaas import alert, functions, info, logs, namespaces, secrets
from gateway.api.sluice import pages, signals


def application(control: ControlPlane, registry: CollectorRegistry, *more: APIRouter) -> ASGIApp:
    """The API on `control`, guarded by its auth. more: routers of endpoints built elsewhere."""
    app = FastAPI(
        title="Sluice",
        version=control.about.release,
        openapi_url=None,  # would be served without the password
        redirect_slashes=False,
    )
    for part in (functions, secrets, namespaces, logs, alert, info, signals, pages):
        app.include_router(part.routes(control))
    for router in more:
        app.include_router(router)
    failures.install(app)
    return Measure(Guard(app, control.auth), registry)
