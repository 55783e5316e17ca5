"""Makes bundles of build contexts: what the remote-builder API calls, with no container.

A build unpacks the tar, finds the handler without running it, resolves the requirements of
runtime, template and function together, has their environment made once, and keeps code and
environment under the image's name. Nothing that the developer sent runs in the gateway's process.
"""

import asyncio
import json
import logging
import os
import platform
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gateway.building import inspection
from gateway.building.archive import ArchiveLimits, Unpacked, unpack
from gateway.building.child import Report, python_command, run_child
from gateway.building.context import (
    BuildConfig,
    Context,
    bundle_digest,
    lay_out,
    read_config,
    read_context,
)
from gateway.building.environments import Environments, compile_modules
from gateway.building.indexes import masked
from gateway.building.locking import Demand, lock_key
from gateway.building.requirements import read_requirements, runtime_requirements
from gateway.building.threads import to_end
from gateway.building.uv import BuildError, Uv
from gateway.providers.embedded.bundle_store import BundleRow
from gateway.providers.embedded.bundles import CACHE, Bundle, Bundles
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
LINES_AN_EVENT: Final = 8
WAITING_LINES: Final = 200
ERROR_CHARACTERS: Final = 8000


@dataclass(frozen=True, slots=True)
class BuildEvent:
    """What a build has to say. The last one has status success or failed; duration in seconds."""

    log: tuple[str, ...]
    image: str = ""
    status: Status = "in_progress"
    error: str = ""
    duration: float = 0.0


class Builder:
    """The embedded builder of one data folder."""

    def __init__(
        self,
        settings: GatewaySettings,
        bundles: Bundles,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """environ: read for the settings of pip and uv, which are not the gateway's knobs."""
        self._settings, self._bundles = settings, bundles
        self._environments = Environments(bundles, Uv(environ, bundles.cache_dir))
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
            async with asyncio.timeout(self._settings.build_timeout), self._staging() as work:
                unpacked = await to_end(lambda: unpack(tar, work / "unpacked", self._limits))
                config = read_config(unpacked.config)
                image = config.image
                with self._bundles.hold(CACHE):
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
            freed = await to_end(lambda: self._bundles.trim_cache(self._settings.build_cache_bytes))
        except OSError:
            # The build stands; the next one tries again.
            log.exception("uv-cache could not be emptied")
            return
        if freed:
            log.info("uv-cache emptied bytes=%d", freed)

    async def _make(
        self, config: BuildConfig, unpacked: Unpacked, work: Path, report: Report
    ) -> None:
        await _explain(config, unpacked, report)
        context = await to_end(lambda: read_context(unpacked.context))
        demand = await to_end(lambda: self._demand(config, context))
        async with self._staging() as staged:
            await to_end(lambda: lay_out(unpacked.context, context, staged))
            form = await _inspected(staged, report)
            lock = await self._environments.resolve(demand, work, report)
            key = lock_key(lock)
            with self._bundles.hold(key):
                await self._environments.prepare(lock, demand.sdists, report)
                digest = await to_end(lambda: bundle_digest(staged, key))
                await compile_modules(staged, report)
                preload = await to_end(lambda: self._environments.preload(demand, key))
                row = BundleRow(config.image, digest, key, preload, form)
                bundle = await to_end(lambda: self._bundles.add(staged, row))
        await report(_summary(bundle))

    def _demand(self, config: BuildConfig, context: Context) -> Demand:
        wanted = runtime_requirements()
        for source, path in context.requirements.items():
            wanted += read_requirements(path, source, self._settings.build_urls)
        sdists = _flag(config, SDISTS)
        if sdists and not self._settings.build_sdists:
            raise BuildError(f"{SDISTS}: the gateway's SLUICE_BUILD_SDISTS is false")
        return Demand(tuple(wanted), sdists, _flag(config, REFRESH))

    @asynccontextmanager
    async def _staging(self) -> AsyncIterator[Path]:
        """Bundles.staging, with its work on the disk off the loop."""
        context = self._bundles.staging()
        folder = await to_end(context.__enter__)
        try:
            yield folder
        finally:
            await to_end(lambda: context.__exit__(None, None, None))


async def _next_lines(lines: asyncio.Queue[str | None], room: asyncio.Semaphore) -> tuple[str, ...]:
    """The lines that wait, a bounded number, at least one; none when the build has ended."""
    batch: list[str] = []
    while len(batch) < LINES_AN_EVENT and not (batch and lines.empty()):
        line = await lines.get()
        if line is None:
            if batch:
                lines.put_nowait(None)
            break
        room.release()
        batch.append(line)
    return tuple(batch)


async def _inspected(staged: Path, report: Report) -> str:
    """The form of the bundle's handler. Raises BuildError with what was looked for."""
    command = python_command(inspection.__file__, staged)
    ended = await run_child(command, {}, report)
    try:
        outcome = json.loads(ended.output)
    except ValueError as error:
        raise BuildError(f"the modules cannot be parsed (the parser ended {ended.code})") from error
    if outcome["error"]:
        raise BuildError(outcome["error"])
    return str(outcome["form"])


async def _explain(config: BuildConfig, unpacked: Unpacked, report: Report) -> None:
    """Say what of the build's settings has no effect here. Names only: values may be secret."""
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
        await report("Build secrets are for Dockerfiles: the embedded builder does not open them")


def _machines(docker_platform: str) -> tuple[str, ...]:
    name = docker_platform.partition("/")[2].partition("/")[0]
    return {"amd64": ("x86_64", "amd64"), "arm64": ("aarch64", "arm64")}.get(name, (name,))


def _flag(config: BuildConfig, name: str) -> bool:
    text = config.arguments.get(name, "")
    try:
        return parse_flag(text) if text else False
    except ValueError as error:
        raise BuildError(f"build argument {name}={text[:40]!r}: expected {error}") from error


def _summary(bundle: Bundle) -> str:
    preload = ", ".join(bundle.preload) or "nothing"
    return f"Built {bundle.image} as {bundle.digest[:12]}: {bundle.form}; preloads {preload}"
