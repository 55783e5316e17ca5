"""What the gateway says of itself, and whether it is well."""

import asyncio
import platform
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from gateway.api.control import ControlPlane
from gateway.errors import SluiceError

PROVIDER_SECONDS: Final = 2.0
COMMIT_MESSAGE: Final = "Sluice"


def routes(control: ControlPlane) -> APIRouter:
    """Routes of /system/info and /healthz."""
    router = APIRouter()
    about = control.about

    @router.get("/system/info")
    async def info(request: Request) -> Response:
        version = {"sha": about.sha, "release": about.release}
        return JSONResponse(
            {
                "arch": platform.machine(),
                "provider": {
                    "provider": about.provider,
                    "orchestration": about.orchestration,
                    "version": version,
                },
                "version": {"commit_message": COMMIT_MESSAGE, **version},
                "isolation": about.isolation(),
            }
        )

    @router.get("/healthz")
    async def healthz(request: Request) -> Response:
        try:
            async with asyncio.timeout(PROVIDER_SECONDS):
                await control.provider.namespaces()
        except (SluiceError, OSError, TimeoutError) as error:
            return PlainTextResponse(f"provider: {str(error) or 'no answer'}", status_code=502)
        return PlainTextResponse("OK")

    return router
