"""Runs each upload in a short-lived process, so that no parser runs in the registry process."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from registry.blobs import Blobs, Spooled
from registry.datasets.job import CSV_FILE, PARQUET_FILE, Job
from registry.errors import BusyError, InvalidRequestError, TooLargeError, UnsupportedMediaTypeError
from registry.metrics import RegistryMetrics
from registry.settings import RegistrySettings

FORMS: Final = {
    "": None,
    "application/octet-stream": None,
    "application/x-www-form-urlencoded": None,  # curl --data-binary sends this
    "text/plain": None,
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/parquet": "parquet",
}
ERRORS: Final = {
    400: InvalidRequestError,
    413: TooLargeError,
    415: UnsupportedMediaTypeError,
    503: BusyError,
}
SAID_MOST: Final = 64 << 20  # bytes a worker may write to stdout
PACKAGES: Final = Path(__file__).resolve().parents[2]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the caller wants an upload parsed. None: detect it from the content."""

    form: str | None
    delimiter: str | None
    header: bool | None
    max_rejects: float | None

    def reading(self) -> dict[str, Any]:
        """The options that change the resulting table for the same bytes."""
        given = {"delimiter": self.delimiter, "header": self.header}
        return {name: value for name, value in given.items() if value is not None}


def read_options(
    kind: str,
    form: str | None,
    delimiter: str | None,
    header: bool | None,
    max_rejects: float | None,
) -> ReadOptions:
    """From query and Content-Type. Raises UnsupportedMediaTypeError, InvalidRequestError."""
    media = kind.partition(";")[0].strip().lower()
    if media not in FORMS:
        raise UnsupportedMediaTypeError(
            f"Content-Type: expected text/csv or application/vnd.apache.parquet with the file "
            f"itself as the body, got {media[:100]!r}"
        )
    if delimiter is not None:
        delimiter = "\t" if delimiter in {"tab", "\\t"} else delimiter
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
            raise InvalidRequestError(
                f"delimiter: expected one ASCII character or tab, got {delimiter[:20]!r}"
            )
    elif media == "text/tab-separated-values":
        delimiter = "\t"
    return ReadOptions(form or FORMS[media], delimiter, header, max_rejects)


class Ingest:
    """Reads a limited number of uploads at once; others wait in a bounded queue or are refused."""

    def __init__(self, settings: RegistrySettings, blobs: Blobs, metrics: RegistryMetrics) -> None:
        self._settings, self._blobs, self._metrics = settings, blobs, metrics
        self._turn = asyncio.Semaphore(settings.ingest_at_once)
        self._queued = 0

    async def read(self, spooled: Spooled, asked: ReadOptions) -> dict[str, Any]:
        """The fields of a DatasetVersion that come from the content, after its files are durable.

        Raises InvalidRequestError, TooLargeError, UnsupportedMediaTypeError, BusyError.
        """
        async with self._admitted():
            folder = await asyncio.to_thread(self._blobs.workspace)
            started, outcome = time.monotonic(), "refused"
            try:
                result = await self._run(self._job(spooled, asked, folder))
                outcome = "accepted"
                return await asyncio.to_thread(self._keep, result, spooled, folder)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                self._metrics.ingest_seconds.labels(outcome).observe(time.monotonic() - started)

    @contextlib.asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        settings = self._settings
        if self._queued >= settings.ingest_at_once + settings.ingest_waiting:
            raise BusyError(f"{self._queued} uploads are being read already, try again later")
        self._queued += 1
        self._metrics.ingesting.set(self._queued)
        try:
            async with self._turn:
                yield
        finally:
            self._queued -= 1
            self._metrics.ingesting.set(self._queued)

    def _job(self, spooled: Spooled, asked: ReadOptions, folder: Path) -> Job:
        settings = self._settings
        share = settings.reject_share if asked.max_rejects is None else asked.max_rejects
        return Job(
            source=str(spooled.path),
            folder=str(folder),
            form=asked.form,
            delimiter=asked.delimiter,
            header=asked.header,
            reject_share=share,
            table_columns=settings.table_columns,
            table_rows=settings.table_rows,
            table_bytes=settings.table_bytes,
            categories=settings.categories,
            memory=settings.ingest_memory,
            threads=settings.ingest_threads,
        )

    async def _run(self, job: Job) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "registry.datasets.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=job.folder,
            env=_environment(job.folder),
            limit=SAID_MOST,
        )
        try:
            async with asyncio.timeout(self._settings.ingest_timeout):
                said, complaint = await _exchange(process, job)
        except TimeoutError:
            raise TooLargeError(
                f"reading the upload took longer than {self._settings.ingest_timeout:g} s"
            ) from None
        except ValueError:  # a line over SAID_MOST
            raise TooLargeError("expected fewer columns: their description is too long") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _result(process.returncode, said, complaint)

    def _keep(self, result: dict[str, Any], spooled: Spooled, folder: Path) -> dict[str, Any]:
        self._metrics.rejected_rows.inc(result["rejects"]["count"])
        files = {}
        for name, path in (("parquet", PARQUET_FILE), ("csv", CSV_FILE)):
            written = self._blobs.measure(folder / path)
            self._blobs.adopt(written)
            files[name] = {"sha256": written.sha256, "bytes": written.size}
        self._blobs.adopt(spooled)
        files["original"] = {"sha256": spooled.sha256, "bytes": spooled.size}
        return {**result, "sha256": spooled.sha256, "bytes": spooled.size, "files": files}


async def _exchange(process: asyncio.subprocess.Process, job: Job) -> tuple[bytes, bytes]:
    """The worker's stdout line and its stderr. Keep stdin open: the worker exits at EOF."""
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RuntimeError("the worker was started without pipes")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(job.to_line())
        await process.stdin.drain()
    said, complaint = await asyncio.gather(process.stdout.readline(), process.stderr.read())
    process.stdin.close()
    await process.wait()
    return said, complaint


def _result(code: int | None, said: bytes, complaint: bytes) -> dict[str, Any]:
    if not said.endswith(b"\n"):
        text = complaint.decode(errors="replace").strip()[-2000:]
        log.error("event=ingest-worker-died code=%s stderr=%r", code, text)
        raise InvalidRequestError(
            "the upload ended the process that read it: expected a table that fits its memory"
        )
    response: dict[str, Any] = json.loads(said)
    if "refused" in response:
        raise ERRORS[response["status"]](response["refused"])
    return response


def _environment(folder: str) -> dict[str, str]:
    """The worker's environment, without the registry's own variables."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(PACKAGES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": folder,
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
    }
