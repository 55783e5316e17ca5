"""Routes about the gateway itself: version, health, removal of unused builds."""

import asyncio
import platform
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from gateway.api.control import ControlPlane
from gateway.types.errors import SluiceError

PROVIDER_SECONDS: Final = 2.0
COMMIT_MESSAGE: Final = "Sluice"


def routes(control: ControlPlane) -> APIRouter:
    """Routes of /system/info, /system/prune and /healthz."""
    router = APIRouter()
    about, provider = control.about, control.provider

    @router.get("/system/info")
    async def info(request: Request) -> Response:
        version = {"sha": about.sha, "release": about.release}
        return JSONResponse(
            {
                "arch": platform.machine(),
                "provider": {
                    "provider": provider.name,
                    "orchestration": provider.orchestration,
                    "version": version,
                },
                "version": {"commit_message": COMMIT_MESSAGE, **version},
                "isolation": provider.isolation,
            }
        )

    @router.post("/system/prune")
    async def prune(request: Request) -> Response:
        pruned = await provider.prune()
        return JSONResponse({**pruned.removed, "freedBytes": pruned.freed_bytes})

    @router.get("/healthz")
    async def healthz(request: Request) -> Response:
        try:
            async with asyncio.timeout(PROVIDER_SECONDS):
                await provider.namespaces()
        except (SluiceError, OSError, TimeoutError) as error:
            return PlainTextResponse(f"provider: {str(error) or 'no response'}", status_code=502)
        return PlainTextResponse("OK")

    return router
