"""The page at /ui/: which functions there are and how they are, for somebody with a browser."""

from html import escape
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from gateway.api.control import ControlPlane
from gateway.types.function import FunctionStatus

# The page needs no script, image or form, and may not be framed.
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
}
PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sluice</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid #ccc; padding: .3rem .8rem; text-align: left; }}
td.number {{ text-align: right; }}
</style></head><body>
<h1>Functions</h1>
{body}
<p>Sluice {release}. Deploy with <code>sluice up</code> or <code>faas-cli up</code>.</p>
</body></html>
"""
TABLE: Final = """<table><tr><th>Function</th><th>Image</th><th>Ready / asked for</th>
<th>Calls</th><th>Why it is not as asked</th></tr>
{rows}</table>"""
ROW: Final = """<tr><td>{name}</td><td>{image}</td><td class="number">{ready} / {asked}</td>
<td class="number">{calls:.0f}</td><td>{reason}</td></tr>
"""


def routes(control: ControlPlane) -> APIRouter:
    """Routes of / and /ui/."""
    router = APIRouter()

    @router.get("/")
    async def home(request: Request) -> Response:
        return RedirectResponse("/ui/", status_code=307)

    @router.get("/ui/")
    async def functions(request: Request) -> Response:
        rows = []
        for namespace in await control.provider.namespaces():
            for status in await control.provider.list(namespace.name):
                rows.append(_row(status, control.invocation_count(status.id)))
        body = TABLE.format(rows="".join(rows)) if rows else "<p>None is deployed.</p>"
        page = PAGE.format(body=body, release=escape(control.about.release))
        return HTMLResponse(page, headers=HEADERS)

    return router


def _row(status: FunctionStatus, calls: float) -> str:
    reason = status.reason or next((r.reason for r in status.running if r.reason), "")
    return ROW.format(
        name=escape(str(status.id)),
        image=escape(status.deployment.image),
        ready=status.available_replicas,
        asked=status.replicas,
        calls=calls,
        reason=escape(reason),
    )
