"""Zygotes: one process for each environment of functions, which forks their replicas."""

import asyncio
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.providers.embedded.children import Child
from gateway.providers.embedded.unspecialized import Shape, UnspecializedProcess, WarmPool
from sluice import launch
from sluice.launch import COLD_START, ZYGOTE

LOG: Final = logging.getLogger(__name__)
# Prefixes of variables that a library or the interpreter reads once, when it is loaded.
IMPORT_TIME: Final = ("PYTHON", "LD_", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_", "ORT_", "MALLOC_")
# Would send the zygote's interpreter to another installation; a function still sees it.
ELSEWHERE: Final = "PYTHONHOME"
LOG_TAIL_BYTES: Final = 2048
STOP_GRACE: Final = 2.0


def import_time(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of a function that must be set before its libraries are imported."""
    return {
        name: value
        for name, value in variables.items()
        if name == "TZ" or (name.startswith(IMPORT_TIME) and name != ELSEWHERE)
    }


@dataclass(frozen=True, slots=True)
class Environment:
    """What the replicas of one zygote share.

    lock_key: names the libraries. preload: modules or distributions to import. variables: the
    zygote's whole environment.
    """

    lock_key: str
    python: Path
    preload: tuple[str, ...]
    variables: Mapping[str, str]

    @property
    def key(self) -> str:
        """The same for environments that can share a zygote."""
        text = json.dumps(
            [self.lock_key, str(self.python), self.preload, sorted(self.variables.items())]
        )
        return sha256(text.encode()).hexdigest()[:16]


class _Zygote:
    """One zygote. warm: settles with why it cannot fork, '' when it can."""

    def __init__(self, child: Child, errors: Path) -> None:
        self.child, self._errors = child, errors
        self.replicas = 0
        self.expiry: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        self.warm: asyncio.Future[str] = loop.create_future()
        loop.add_reader(child.channel.fileno(), self._has_reported)
        child.ended.add_done_callback(self._ended)

    def _has_reported(self) -> None:
        event, _ = launch.receive(self.child.channel)
        asyncio.get_running_loop().remove_reader(self.child.channel.fileno())
        if event is not None and not self.warm.done():
            self.warm.set_result(event.reason if isinstance(event, launch.Cold) else "")

    def _ended(self, code: asyncio.Future[int]) -> None:
        if not self.warm.done():
            self.warm.set_result(
                f"the zygote ended with {code.result()}: {_last_words(self._errors)}"
            )


class Zygotes:
    """Makes processes: by a fork where an environment allows it, else by a cold interpreter."""

    def __init__(
        self, runtime: Path, folder: Path, warm_pool: WarmPool, keep: float, patience: float
    ) -> None:
        """runtime: copy of the runtime's code. folder: for the output of zygotes.

        keep: seconds that a zygote without replicas lives. patience: seconds for its imports.
        """
        self._runtime, self._folder, self._warm_pool = runtime, folder, warm_pool
        self._keep, self._patience = keep, patience
        self._zygotes: dict[str, _Zygote] = {}
        self._cold: dict[str, tuple[float, str]] = {}
        self._children: set[Child] = set()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def warm_process(self, environment: Environment, shape: Shape) -> UnspecializedProcess | None:
        """A process that was made ahead, if there is one that fits.

        If so, `release` must follow once the replica has ended.
        """
        zygote = self._zygotes.get(environment.key)
        warm_process = self._warm_pool.take(environment.key, shape) if zygote else None
        if zygote is not None and warm_process is not None:
            self._hold(zygote)
        return warm_process

    async def start(self, environment: Environment, unspecialized: UnspecializedProcess) -> str:
        """Have a process made; returns why it starts cold, '' when it was forked.

        `release` must follow once the replica has ended. Raises OSError when no process starts.
        """
        reason = await self._fork(environment, unspecialized)
        if reason:
            self._start_cold(environment, unspecialized)
        return reason

    def started(self, environment: Environment, shape: Shape) -> None:
        """Note that a replica is ready, and have a warm process made for the next start."""
        zygote = self._zygotes.get(environment.key)
        if zygote is not None:
            channel = zygote.child.channel
            self._warm_pool.want(
                environment.key,
                shape,
                lambda unspecialized: unspecialized.request(channel, warm=True),
            )

    def release(self, environment: Environment) -> None:
        """Note that a replica of the environment has ended."""
        zygote = self._zygotes.get(environment.key)
        if zygote is not None and zygote.replicas > 0:
            zygote.replicas -= 1
            self._expire_later(environment.key, zygote)

    def last_words(self, environment: Environment) -> str:
        """The last line written by the environment's last cold interpreter."""
        return _last_words(self._cold_errors(environment))

    def processes(self) -> list[int]:
        """Process ids of the running zygotes."""
        return [zygote.child.pid for zygote in self._zygotes.values()]

    async def close(self) -> None:
        """End every zygote."""
        for zygote in self._zygotes.values():
            if zygote.expiry:
                zygote.expiry.cancel()
        await self._warm_pool.close()
        await asyncio.gather(*(child.stop(STOP_GRACE) for child in self._children))

    async def _fork(self, environment: Environment, unspecialized: UnspecializedProcess) -> str:
        now = asyncio.get_running_loop().time()
        since, reason = self._cold.get(environment.key, (0.0, ""))
        if reason and now - since < self._keep:
            return reason
        for _ in range(2):  # a second time if the zygote has ended
            zygote = self._zygotes.get(environment.key) or self._spawn(environment)
            self._hold(zygote)
            if reason := await self._warmth(zygote):
                self._note_cold(environment, reason)
                return reason
            try:
                unspecialized.request(zygote.child.channel)
            except OSError as error:
                reason = f"the zygote does not answer: {error.strerror}"
                self._forget(environment.key, zygote)
            else:
                return ""
        return reason

    async def _warmth(self, zygote: _Zygote) -> str:
        await asyncio.wait([zygote.warm], timeout=self._patience)
        if zygote.warm.done():
            return zygote.warm.result()
        zygote.child.kill()
        return f"imports took more than {self._patience:g} s"

    def _spawn(self, environment: Environment) -> _Zygote:
        errors = self._folder / f"{environment.key}.log"
        child = self._run(environment, environment.preload, errors)
        zygote = self._zygotes[environment.key] = _Zygote(child, errors)
        child.ended.add_done_callback(lambda _: self._forget(environment.key, zygote))
        LOG.info("zygote started: environment=%s process=%d", environment.lock_key, child.pid)
        return zygote

    def _start_cold(self, environment: Environment, unspecialized: UnspecializedProcess) -> None:
        child = self._run(environment, (COLD_START,), self._cold_errors(environment))
        unspecialized.request(child.channel)
        child.close_channel()

    def _cold_errors(self, environment: Environment) -> Path:
        return self._folder / f"{environment.key}.cold.log"

    def _run(self, environment: Environment, words: Sequence[str], errors: Path) -> Child:
        python = str(environment.python)
        command = [python, "-P", "-m", ZYGOTE, *words]
        child = Child(command, environment.variables, self._runtime, errors)
        self._children.add(child)
        child.ended.add_done_callback(lambda _: self._children.discard(child))
        return child

    def _note_cold(self, environment: Environment, reason: str) -> None:
        if environment.key not in self._cold:
            LOG.warning("starts cold: environment=%s reason=%s", environment.lock_key, reason)
        self._cold[environment.key] = (asyncio.get_running_loop().time(), reason)

    def _hold(self, zygote: _Zygote) -> None:
        zygote.replicas += 1
        if zygote.expiry:
            zygote.expiry.cancel()

    def _expire_later(self, key: str, zygote: _Zygote) -> None:
        if zygote.replicas == 0:
            loop = asyncio.get_running_loop()
            zygote.expiry = loop.call_later(self._keep, self._expire, key, zygote)

    def _expire(self, key: str, zygote: _Zygote) -> None:
        self._forget(key, zygote)
        zygote.child.close_channel()

    def _forget(self, key: str, zygote: _Zygote) -> None:
        if self._zygotes.get(key) is zygote:
            del self._zygotes[key]
            self._warm_pool.drop(key)


def _last_words(errors: Path) -> str:
    """The last line of a file of error output."""
    with errors.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
