"""The page at /ui/: the functions and their state, for a browser."""

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.api.control import ControlPlane
from gateway.types.function import FunctionStatus

# The page needs no script, image or form, and may not be framed.
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
}
TEMPLATES: Final = Environment(
    loader=PackageLoader(__package__ or "", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """A function as the page shows it. calls: invocations so far, without a fraction."""

    name: str
    image: str
    ready: int
    desired: int
    calls: str
    reason: str


def routes(control: ControlPlane) -> APIRouter:
    """Routes of / and /ui/."""
    router = APIRouter()
    template = TEMPLATES.get_template("functions.html.j2")

    @router.get("/")
    async def home(request: Request) -> Response:
        return RedirectResponse("/ui/", status_code=307)

    @router.get("/ui/")
    async def functions(request: Request) -> Response:
        rows = [
            _row(status, control.invocation_count(status.id))
            for namespace in await control.provider.namespaces()
            for status in await control.provider.list(namespace.name)
        ]
        page = template.render(functions=rows, release=control.about.release)
        return HTMLResponse(page, headers=HEADERS)

    return router


def _row(status: FunctionStatus, calls: float) -> FunctionRow:
    reason = status.reason or next((r.reason for r in status.running if r.reason), "")
    return FunctionRow(
        name=str(status.id),
        image=status.deployment.image,
        ready=status.available_replicas,
        desired=status.replicas,
        calls=f"{calls:.0f}",
        reason=reason,
    )
