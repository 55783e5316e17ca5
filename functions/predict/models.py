"""Resolves a reference to a loaded model version, and follows an alias that moves."""

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

from sluice.ml.errors import CallError, NotFoundError, UnavailableError, UnprocessableError
from sluice.ml.registry import Seen

from .cache import Cache, Known
from .reference import Reference
from .served import Served

_LOG: Final = logging.getLogger("predict")
REFRESH_SECONDS: Final = 1.0
# How long an alias is trusted after the registry confirmed it: longer than a refresh cycle, shorter
# than the 2 s within which a move must be followed.
TRUSTED_SECONDS: Final = 1.5
# Calls do not wait for a registry that is unavailable: the refresh thread keeps trying.
UNAVAILABLE_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 30.0
REFUSED_SECONDS: Final = 30.0


class Source(Protocol):
    """The registry calls that are needed here."""

    def alias(self, name: str, alias: str, etag: str = "") -> Seen: ...
    def model_version(self, name: str, version: str) -> dict[str, Any]: ...
    def artifact(self, sha256: str) -> bytes: ...


@dataclass(slots=True)
class Entry:
    """The model of a reference. trusted_until, used: monotonic seconds.

    refused: ETag of a version that does not run here. lock: held by the one registry call.
    """

    served: Served
    etag: str
    trusted_until: float
    used: float
    refused: str = ""
    refused_until: float = 0.0
    unavailable: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Models:
    """The models in use, at most `limit` references; the least recently used goes first.

    A thread looks for moved aliases every second while calls arrive, and ends when they stop: an
    idle replica costs the registry nothing. The first call after that asks the registry itself.
    """

    def __init__(self, source: Source, cache: Cache, limit: int, max_rows: int) -> None:
        self._source = source
        self._cache = cache
        self._limit = limit
        self._max_rows = max_rows
        self._entries: dict[Reference, Entry] = {}
        self._loaded: WeakValueDictionary[tuple[str, str, str], Served] = WeakValueDictionary()
        self._loading: dict[Reference, asyncio.Future[Served]] = {}
        self._pool = ThreadPoolExecutor(2, "models")
        self._lock = threading.Lock()
        self._follower: threading.Thread | None = None
        self._closed = threading.Event()

    def current(self, reference: Reference) -> Served | None:
        """The model for a call that begins now; None where it must be looked up first."""
        entry = self._entries.get(reference)
        if entry is None:
            return None
        now = monotonic()
        if now >= entry.trusted_until:
            return None
        entry.used = now
        return entry.served

    async def look_up(self, reference: Reference) -> Served:
        """The model as the registry has it, or the last known version while that is unavailable.

        Calls that wait for the same reference share one lookup. Raises NotFoundError,
        UnavailableError where nothing is known, UnprocessableError where the model does not run
        here.
        """
        loading = self._loading.get(reference)
        if loading is None:
            loop = asyncio.get_running_loop()
            loading = loop.run_in_executor(self._pool, self.load, reference)
            self._loading[reference] = loading
            loading.add_done_callback(lambda done: self._looked_up(reference, done))
        # Shielded: a caller that disconnects ends only its own wait.
        return await asyncio.shield(loading)

    def load(self, reference: Reference) -> Served:
        """The model as the registry has it now. Blocks; raises as look_up does."""
        entry = self._entries.get(reference)
        if entry is None:
            return self._first(reference)
        with entry.lock:
            # Another thread may have refreshed it while this one waited for the lock.
            if monotonic() >= entry.trusted_until:
                self._ask(reference, entry)
        entry.used = monotonic()
        return entry.served

    def warm(self, reference: Reference) -> None:
        """Load the cached version, and ask the registry in the background whether it is current.

        The call that woke this replica finds the result. Without a cached version, and for a fixed
        version, the same as `load`. Raises as look_up does.
        """
        known = self._cache.known(str(reference))
        if known is None or reference.version:
            self._first(reference)
            return
        begun = monotonic()
        pending = self._pool.submit(self._source.alias, reference.name, reference.alias, known.etag)
        try:
            self._put(reference, known, trusted_until=0.0)
        except CallError as error:
            _LOG.warning("model=%s cached version not usable: %s", reference, error)
            self._first(reference)
            return
        entry = self._entries[reference]
        # Held until the response is there, so that a call waits for it instead of asking again.
        entry.lock.acquire()
        pending.add_done_callback(lambda _: self._take_early(reference, entry, begun, pending))

    def _take_early(
        self, reference: Reference, entry: Entry, begun: float, pending: Future[Seen]
    ) -> None:
        try:
            with suppress(CallError):  # the next call asks again and gets the error
                self._take(reference, entry, begun, pending.result)
        finally:
            entry.lock.release()

    def close(self) -> None:
        """End the threads."""
        self._closed.set()
        follower = self._follower
        if follower is not None:
            follower.join()
        self._pool.shutdown()

    def _first(self, reference: Reference) -> Served:
        """The model of a reference that is not in memory."""
        cached = self._cache.known(str(reference))
        if reference.version and cached is not None:
            # A version never changes, so the registry need not be asked.
            return self._put(reference, cached, math.inf)
        begun = monotonic()
        try:
            known = self._fetch(reference)
        except NotFoundError:
            self._cache.forget(str(reference))
            raise
        except UnavailableError as error:
            if cached is None:
                raise
            _LOG.warning("model=%s answered from the cache: %s", reference, error)
            return self._put(reference, cached, monotonic() + UNAVAILABLE_SECONDS)
        served = self._put(
            reference, known, math.inf if reference.version else begun + TRUSTED_SECONDS
        )
        self._cache.learn(str(reference), known)
        return served

    def _fetch(self, reference: Reference) -> Known:
        if reference.version:
            return Known(self._source.model_version(reference.name, reference.version), "")
        seen = self._source.alias(reference.name, reference.alias)
        if seen.body is None:
            raise UnavailableError("the registry answered 304 to a request without a condition")
        return Known(seen.body, seen.etag)

    def _put(self, reference: Reference, known: Known, trusted_until: float) -> Served:
        served = self._built(known)
        with self._lock:
            self._entries[reference] = Entry(served, known.etag, trusted_until, monotonic())
            while len(self._entries) > self._limit:
                oldest = min(self._entries, key=lambda key: self._entries[key].used)
                del self._entries[oldest]
        return served

    def _built(self, known: Known) -> Served:
        """The version loaded and warm; one session serves all references to it."""
        body = known.body
        try:
            key = (str(body["name"]), str(body["version"]), str(body["artifact"]))
        except KeyError as error:
            raise UnprocessableError(f"the registry's model version lacks {error}") from error
        served = self._loaded.get(key)
        if served is None:
            sha256 = key[2]
            content = self._cache.artifact(sha256)
            if content is None:
                content = self._source.artifact(sha256)
                self._cache.keep(sha256, content)
            served = self._loaded.setdefault(key, Served(body, content, self._max_rows))
        return served

    def _ask(self, reference: Reference, entry: Entry) -> None:
        """Ask where the alias points and swap the model if it moved. Raises NotFoundError when it
        is gone.
        """
        source, etag = self._source, entry.etag
        self._take(
            reference,
            entry,
            monotonic(),
            lambda: source.alias(reference.name, reference.alias, etag),
        )

    def _take(
        self, reference: Reference, entry: Entry, begun: float, response: Callable[[], Seen]
    ) -> None:
        """Apply the registry's response to a request made at `begun`; raises as `_ask`."""
        try:
            seen = response()
        except NotFoundError:
            self._drop(reference)
            raise
        except UnavailableError as error:
            entry.trusted_until = monotonic() + UNAVAILABLE_SECONDS
            if not entry.unavailable:
                _LOG.warning("model=%s last known version stays: %s", reference, error)
            entry.unavailable = True
            return
        entry.unavailable = False
        refused = seen.etag == entry.refused and begun < entry.refused_until
        if seen.body is not None and not refused:
            self._swap(reference, entry, Known(seen.body, seen.etag))
        entry.trusted_until = begun + TRUSTED_SECONDS

    def _swap(self, reference: Reference, entry: Entry, known: Known) -> None:
        """Load the version the alias moved to, then swap. Until then the old one serves while it is
        trusted; calls of a replica that has just started wait.
        """
        if monotonic() < entry.trusted_until:
            entry.trusted_until = monotonic() + UNAVAILABLE_SECONDS
        before = entry.served.version
        try:
            served = self._built(known)
        except CallError as error:
            entry.refused, entry.refused_until = known.etag, monotonic() + REFUSED_SECONDS
            _LOG.warning("model=%s version %s stays: %s", reference, before, error)
            return
        entry.served, entry.etag = served, known.etag
        self._cache.learn(str(reference), known)
        _LOG.info("model=%s version=%s was=%s", reference, served.version, before)

    def _drop(self, reference: Reference) -> None:
        with self._lock:
            self._entries.pop(reference, None)
        self._cache.forget(str(reference))

    def _looked_up(self, reference: Reference, done: "asyncio.Future[Served]") -> None:
        del self._loading[reference]
        if not done.cancelled():
            done.exception()  # retrieved here, since every caller may have left
        with self._lock:
            if reference.alias and self._follower is None and not self._closed.is_set():
                self._follower = threading.Thread(target=self._follow, name="aliases", daemon=True)
                self._follower.start()

    def _follow(self) -> None:
        """Refresh every alias in use once a second, until none is in use."""
        while not self._closed.wait(REFRESH_SECONDS):
            with self._lock:
                since = monotonic() - IDLE_SECONDS
                due = [
                    (reference, entry)
                    for reference, entry in self._entries.items()
                    if reference.alias and entry.used > since
                ]
                if not due:
                    self._follower = None
                    return
            for reference, entry in due:
                try:
                    with entry.lock:
                        self._ask(reference, entry)
                except NotFoundError as error:
                    _LOG.warning("model=%s is gone: %s", reference, error)
                except Exception:  # noqa: BLE001 - the top of the loop, logged
                    _LOG.exception("model=%s could not be followed", reference)
