"""Builds contexts for a target: what the remote-builder API calls, with no container.

A build unpacks the tar, finds the handler without running it, resolves the requirements of
runtime, template and function together, and has the target make an image of code and lock. Nothing
that the developer sent runs in the gateway's process.
"""

import asyncio
import json
import logging
import platform
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gateway.building import inspection
from gateway.building.archive import ArchiveLimits, Unpacked, unpack
from gateway.building.child import Report, python_command, run_child
from gateway.building.context import BuildConfig, ContextParts, lay_out, read_config, read_context
from gateway.building.errors import BuildError
from gateway.building.images import canonical_image
from gateway.building.indexes import masked
from gateway.building.locking import Demand
from gateway.building.requirements import read_requirements, runtime_requirements
from gateway.building.target import BuildContext, BuildTarget
from gateway.building.threads import to_end
from gateway.settings import GatewaySettings
from gateway.types.errors import SluiceError
from sluice.settings import parse_flag

log = logging.getLogger(__name__)

Status = Literal["in_progress", "success", "failed"]
SDISTS: Final = "SLUICE_ALLOW_SDIST"
REFRESH: Final = "SLUICE_REFRESH"
PYTHON: Final = "PYTHON_VERSION"
PROXIES: Final = frozenset({"http_proxy", "https_proxy", "no_proxy", "all_proxy"})
# With the longest lines, every character escaped, an event stays below faas-cli's 64 KiB.
LINES_PER_EVENT: Final = 8
WAITING_LINES: Final = 200
ERROR_CHARACTERS: Final = 8000


@dataclass(frozen=True, slots=True)
class BuildEvent:
    """Progress of a build. The last one has status success or failed; duration in seconds."""

    log: tuple[str, ...]
    image: str = ""
    status: Status = "in_progress"
    error: str = ""
    duration: float = 0.0


class Builder:
    """Builds for one target."""

    def __init__(self, settings: GatewaySettings, target: BuildTarget) -> None:
        self._settings, self._target = settings, target
        self._limits = ArchiveLimits(
            settings.build_members, settings.build_bytes, settings.build_bytes
        )

    async def build(self, tar: Path) -> AsyncGenerator[BuildEvent, None]:
        """Events as they come, success or failed last. Closing the iterator cancels the build."""
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        room = asyncio.Semaphore(WAITING_LINES)

        async def report(line: str) -> None:
            await room.acquire()
            lines.put_nowait(line)

        task = asyncio.create_task(self._outcome(tar, report))
        task.add_done_callback(lambda _: lines.put_nowait(None))
        try:
            while batch := await _next_lines(lines, room):
                yield BuildEvent(log=batch)
            yield task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _outcome(self, tar: Path, report: Report) -> BuildEvent:
        started = time.monotonic()
        image, error = "", ""
        try:
            async with asyncio.timeout(self._settings.build_timeout), self._workspace() as work:
                unpacked = await to_end(lambda: unpack(tar, work / "unpacked", self._limits))
                config = read_config(unpacked.config)
                image = config.image
                with self._target.cache.hold():
                    await self._make(config, unpacked, work, report)
        except SluiceError as failure:
            error = masked(str(failure))[:ERROR_CHARACTERS]
        except TimeoutError:
            error = f"the build took longer than {self._settings.build_timeout:g} s"
        except (OSError, sqlite3.Error) as failure:
            log.exception("build image=%s failed", image)
            error = f"the builder cannot go on: {getattr(failure, 'strerror', None) or failure}"
        await self._trim_cache()
        duration = round(time.monotonic() - started, 3)
        log.info("build image=%s seconds=%s error=%r", image, duration, error)
        return BuildEvent((), image, "failed" if error else "success", error, duration)

    async def _trim_cache(self) -> None:
        try:
            freed = await to_end(lambda: self._target.cache.trim(self._settings.build_cache_bytes))
        except OSError:
            # The build succeeded; the next one trims again.
            log.exception("uv-cache could not be emptied")
            return
        if freed:
            log.info("uv-cache emptied bytes=%d", freed)

    async def _make(
        self, config: BuildConfig, unpacked: Unpacked, work: Path, report: Report
    ) -> None:
        await _explain(config, unpacked, report)
        parts = await to_end(lambda: read_context(unpacked.context))
        demand = await to_end(lambda: self._demand(config, parts))
        async with self._workspace() as folder:
            await to_end(lambda: lay_out(unpacked.context, parts, folder))
            form = await _inspected(folder, report)
            lock = await self._target.resolver.resolve(demand, work, report)
            context = BuildContext(canonical_image(config.image), folder, form)
            result = await self._target.build(context, lock, report)
        await report(
            f"Built {context.image} as {result.digest[:12]}: {context.form}; {result.details}"
        )

    def _demand(self, config: BuildConfig, parts: ContextParts) -> Demand:
        wanted = runtime_requirements()
        for source, path in parts.requirements.items():
            wanted += read_requirements(path, source, self._settings.build_urls)
        sdists = _flag(config, SDISTS)
        if sdists and not self._settings.build_sdists:
            raise BuildError(f"{SDISTS}: the gateway's SLUICE_BUILD_SDISTS is false")
        return Demand(tuple(wanted), sdists, _flag(config, REFRESH))

    @asynccontextmanager
    async def _workspace(self) -> AsyncIterator[Path]:
        """A workspace of the target, made and removed on a thread."""
        workspace = self._target.workspace()
        folder = await to_end(workspace.__enter__)
        try:
            yield folder
        finally:
            await to_end(lambda: workspace.__exit__(None, None, None))


async def _next_lines(lines: asyncio.Queue[str | None], room: asyncio.Semaphore) -> tuple[str, ...]:
    """The next lines, at least one and a bounded number; none when the build has ended."""
    batch: list[str] = []
    while len(batch) < LINES_PER_EVENT and not (batch and lines.empty()):
        line = await lines.get()
        if line is None:
            if batch:
                lines.put_nowait(None)
            break
        room.release()
        batch.append(line)
    return tuple(batch)


async def _inspected(folder: Path, report: Report) -> str:
    """The form of the handler. Raises BuildError with what was looked for."""
    command = python_command(inspection.__file__, folder)
    ended = await run_child(command, {}, report)
    try:
        outcome = json.loads(ended.output)
    except ValueError as error:
        raise BuildError(f"the modules cannot be parsed (the parser ended {ended.code})") from error
    if outcome["error"]:
        raise BuildError(outcome["error"])
    return str(outcome["form"])


async def _explain(config: BuildConfig, unpacked: Unpacked, report: Report) -> None:
    """Report which build settings have no effect here. Names only: values may be secret."""
    version = config.arguments.get(PYTHON, "")
    own = platform.python_version()
    if version and not f"{own}.".startswith(f"{version}."):
        await report(f"{PYTHON}={version[:40]} is for clusters: built with Python {own}")
    known = {SDISTS, REFRESH, PYTHON, *PROXIES}
    ignored = [
        name
        for name, value in config.arguments.items()
        if value and name.lower() not in known and name not in known
    ]
    if ignored:
        await report(f"Without effect outside a cluster: {', '.join(sorted(ignored))[:500]}")
    if config.platforms and not any(platform.machine() in _machines(p) for p in config.platforms):
        await report(f"Built for this machine ({platform.machine()}) only")
    if unpacked.secrets is not None:
        await report("Build secrets are for Dockerfiles: this builder does not open them")


def _machines(docker_platform: str) -> tuple[str, ...]:
    name = docker_platform.partition("/")[2].partition("/")[0]
    return {"amd64": ("x86_64", "amd64"), "arm64": ("aarch64", "arm64")}.get(name, (name,))


def _flag(config: BuildConfig, name: str) -> bool:
    text = config.arguments.get(name, "")
    try:
        return parse_flag(text) if text else False
    except ValueError as error:
        raise BuildError(f"build argument {name}={text[:40]!r}: expected {error}") from error
