"""Runs uv for a build and turns its failures into messages for the developer."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import uv

from gateway.building.child import Ended, Report, run_child
from gateway.building.errors import BuildError
from gateway.building.indexes import Indexes, read_indexes
from gateway.building.requirements import Wanted, blamed

CACHE_VARIABLE: Final = "UV_CACHE_DIR"
NO_WHEEL: Final = ("no usable wheels", "no wheels", "building from source is disabled")
SDIST_HINT: Final = "build argument SLUICE_ALLOW_SDIST=true lets the builder build from source"


class Uv:
    """uv as this gateway runs it: with pip's indexes and a cache of its own."""

    def __init__(self, environ: Mapping[str, str], cache: Path) -> None:
        """environ: the gateway's; cache: used unless UV_CACHE_DIR names another.

        Environments are hard links into the cache, which takes one file system for both.
        """
        self._indexes: Indexes = read_indexes(environ)
        self._environ = dict(self._indexes.environ) | {
            CACHE_VARIABLE: environ.get(CACHE_VARIABLE) or str(cache),
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "NO_COLOR": "1",
        }

    @property
    def indexes(self) -> str:
        """Text that differs where a resolution may differ."""
        return self._indexes.identity

    async def resolve(
        self, files: Sequence[Path], wanted: Sequence[Wanted], sdists: bool, report: Report
    ) -> str:
        """The lock of all requirement files together: versions with hashes.

        Raises BuildError with uv's message and the requirements that it names.
        """
        options = ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        ended = await self._run(
            ["pip", "compile", *options, *self._sources(sdists), *_python(sys.executable), *files],
            report,
        )
        if ended.code != 0:
            message = _message(ended)
            sides = "; ".join(dict.fromkeys(str(side) for side in blamed(wanted, message)))
            raise BuildError(message + (f" Asked for by: {sides}." if sides else ""))
        return ended.output.decode()

    async def make_environment(self, folder: Path, report: Report) -> None:
        """Make an empty virtual environment of the gateway's own Python. Raises BuildError."""
        command = ["venv", "--no-project", "--quiet", *_python(sys.executable), folder]
        _check(await self._run(command, report))

    async def install(self, folder: Path, lock: Path, sdists: bool, report: Report) -> None:
        """Install exactly the lock into the environment, hashes checked. Raises BuildError."""
        python = _python(folder / "bin" / "python")
        options = ["--require-hashes", *self._sources(sdists)]
        _check(await self._run(["pip", "sync", *options, *python, lock], report))

    def _sources(self, sdists: bool) -> list[str]:
        options = [] if sdists else ["--only-binary", ":all:"]
        return [*options, "--no-index"] if self._indexes.no_index else options

    async def _run(self, arguments: Sequence[str | Path], report: Report) -> Ended:
        return await run_child([uv.find_uv_bin(), *arguments], self._environ, report)


def _python(path: str | Path) -> list[str | Path]:
    return ["--python", path]


def _check(ended: Ended) -> None:
    if ended.code != 0:
        raise BuildError(_message(ended))


def _message(ended: Ended) -> str:
    """The output of uv from its error on, in one line, with a hint where there is a choice."""
    lines = [line.strip() for line in ended.errors]
    start = next((i for i, line in enumerate(lines) if line.startswith("error:")), 0)
    said = [re.sub(r"^(error|cause): ", "", line) for line in lines[start:]]
    message = ": ".join(said) or f"uv ended with code {ended.code} and no message"
    if any(words in message for words in NO_WHEEL):
        message += f"; {SDIST_HINT}"
    return message
