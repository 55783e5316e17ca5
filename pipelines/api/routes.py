"""The routes of pipelines and runs. Errors are {"error": text} with the status of what failed."""

import asyncio
import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from pipelines.api.views import Json, pipeline_view, run_row, run_view
from pipelines.definition import read_json
from pipelines.errors import ForbiddenError, InvalidRequestError, TooLargeError
from pipelines.records import OPEN, Start
from pipelines.service import PipelineService
from pipelines.settings import PipelineSettings

LONGEST_WAIT: Final = 30.0
KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
FILE: Final = re.compile(r"[\w./ -]{1,200}")
OTHERS_WRITE: Final = 1.0  # seconds between looks at a run that is not under way here
Limit = Annotated[int, Query(ge=1, le=1000)]
Wait = Annotated[float, Query(ge=0, allow_inf_nan=False)]


class Routes:
    """The routes of pipelines and runs."""

    def __init__(self, settings: PipelineSettings, pipelines: PipelineService) -> None:
        self._settings, self._pipelines = settings, pipelines
        self.router = APIRouter()
        for method, path, work in (
            ("GET", "/pipelines", self.list_),
            ("PUT", "/pipelines", self.put),
            ("GET", "/pipelines/{name}", self.show),
            ("POST", "/pipelines/{name}/runs", self.start),
            ("GET", "/pipelines/{name}/runs", self.runs),
            ("GET", "/runs", self.runs),
            ("GET", "/runs/{run}", self.run),
            ("POST", "/runs/{run}/cancel", self.cancel),
            ("POST", "/runs/{run}/rerun", self.rerun),
        ):
            self.router.add_api_route(path, work, methods=[method])

    async def list_(self) -> Json:
        """Every pipeline."""
        service = self._pipelines
        known = service.definitions
        views = [pipeline_view(one, known.version) for one in known.pipelines.values()]
        return {"version": known.version, "pipelines": views}

    async def put(self, request: Request, file: str = "pipelines.yml") -> Json:
        """Replace all definitions by the YAML in the body; file: its name in errors."""
        if not FILE.fullmatch(file):
            raise InvalidRequestError("file: expected a file's name")
        body = await _body(request, self._settings.definitions_bytes)
        try:
            source = body.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"{file}: byte {error.start} is not UTF-8") from None
        await self._pipelines.definitions.put(source, file)
        return await self.list_()

    async def show(self, name: str) -> Json:
        """One pipeline."""
        known = self._pipelines.definitions
        return pipeline_view(await known.pipeline(name), known.version)

    async def start(self, request: Request, name: str) -> Response:
        """Start a run: 202 with its id, 200 with that of the first one that had the same key."""
        pipeline = await self._pipelines.definitions.pipeline(name)
        if not pipeline.triggers.http:
            raise ForbiddenError(f"pipeline {name} is not started by HTTP")
        value = read_json(await _body(request, self._settings.input_bytes))
        run, new = await self._pipelines.start(Start(name, value, "http", _key(request)))
        headers = {"Location": f"/triggers/runs/{run}"}
        body = {"run": run, "pipeline": name}
        return JSONResponse(body, 202 if new else 200, headers)

    async def runs(
        self, name: str = "", state: str = "", before: str = "", limit: Limit = 100
    ) -> Json:
        """Runs, newest first; `next` is the `before` of the following page."""
        rows = await self._pipelines.store.rows(name, state, before, limit)
        after = rows[-1]["id"] if len(rows) == limit else None
        return {"runs": [run_row(row) for row in rows], "next": after}

    async def run(self, run: str, wait: Wait = 0.0, revision: str = "") -> Json:
        """A run; with `wait`, as soon as its revision is another than `revision`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(wait, LONGEST_WAIT)
        while True:
            execution = self._pipelines.active(run)
            change = asyncio.ensure_future(execution.changed()) if execution else None
            try:
                view = await self._view(run)
                left = deadline - loop.time()
                stale = view["revision"] == revision and view["state"] in OPEN
                if not stale or left <= 0 or self._pipelines.stopping.is_set():
                    return view
                await self._wait(change, left)
            finally:
                if change is not None:
                    change.cancel()

    async def _wait(self, change: "asyncio.Future[None] | None", left: float) -> None:
        stopping = asyncio.ensure_future(self._pipelines.stopping.wait())
        waited: list[asyncio.Future[Any]] = [stopping]
        if change is not None:
            waited.append(change)
        try:
            seconds = left if change is not None else min(left, OTHERS_WRITE)
            await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _view(self, run: str) -> Json:
        service = self._pipelines
        row = await service.store.row(run)
        results = await service.store.results(run)
        pipeline = await service.definitions.pipeline(row["pipeline"], row["version"])
        return run_view(row, pipeline, results, service.active(run))

    async def cancel(self, run: str) -> Json:
        """End a run: calls under way are cut, what is recorded stays."""
        await self._pipelines.cancel(run)
        return await self._view(run)

    async def rerun(
        self, request: Request, run: str, from_: Annotated[str, Query(alias="from")] = ""
    ) -> Response:
        """Start a new run with the results of this one, but for `from` and what needs it."""
        new = await self._pipelines.rerun(run, from_, _key(request))
        headers = {"Location": f"/triggers/runs/{new}"}
        return JSONResponse({"run": new, "parent": run}, 202, headers)


def _key(request: Request) -> str | None:
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not KEY.fullmatch(keys[0]):
        raise InvalidRequestError(
            "Idempotency-Key: expected one of 1 to 255 printable ASCII characters"
        )
    return keys[0]


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLargeError(f"body: expected at most {limit} bytes")
    return bytes(body)
