"""The definitions of all pipelines: the current version, and those that older runs use."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pipelines.definition import Pipeline
from pipelines.errors import NotFoundError
from pipelines.loading import load_pipelines
from pipelines.store import RunStore
from service.catalog import Catalog
from service.schedule import Schedule

Schedules = Mapping[str, Sequence[Schedule]]
KEPT_VERSIONS: Final = 16
log = logging.getLogger(__name__)


class Definitions:
    """The definitions that were posted last, to any process. version: '' before the first."""

    def __init__(self, store: RunStore, catalog: Catalog) -> None:
        self._store, self._catalog = store, catalog
        self.version = ""
        self.source = ""
        self.pipelines: Mapping[str, Pipeline] = {}
        self._versions: dict[str, Mapping[str, Pipeline]] = {}
        self._listeners: list[Callable[[Schedules], None]] = []

    @property
    def topics(self) -> Mapping[str, str]:
        """The pipeline that each topic starts."""
        return {
            topic: name
            for name, pipeline in self.pipelines.items()
            for topic in pipeline.triggers.topics
        }

    def subscribe(self, listener: Callable[[Schedules], None]) -> None:
        """Call `listener` with the schedules of all pipelines, now and when they were replaced."""
        self._listeners.append(listener)
        listener(self._schedules())

    async def put(self, source: str, file: str) -> str:
        """Make `source` the current definitions; returns their version.

        Raises InvalidRequestError, and CallError where the gateway cannot say what is deployed.
        """
        functions = await self._catalog.refresh()
        names = {one.address for one in functions}
        names |= {one.name for one in functions if one.namespace in {"", "openfaas-fn"}}
        pipelines = load_pipelines(source, file, names)
        version = await self._store.put_definitions(source)
        self._use(version, source, pipelines)
        log.info("event=definitions version=%s pipelines=%d", version, len(pipelines))
        return version

    async def load(self) -> None:
        """Read the current definitions from the database, unless there are some already."""
        found = await self._store.definitions()
        if found is not None and not self.version:
            self._use(*found, load_pipelines(found[1], "pipelines.yml"))

    async def follow(self) -> None:
        """Load the definitions that were posted to another process."""
        before = self.version
        found = await self._store.definitions()
        if found is not None and found[0] != before == self.version:
            self._use(*found, load_pipelines(found[1], "pipelines.yml"))
            log.info("event=definitions version=%s pipelines=%d", found[0], len(self.pipelines))

    def _use(self, version: str, source: str, pipelines: Mapping[str, Pipeline]) -> None:
        self.version, self.source, self.pipelines = version, source, pipelines
        self._versions[version] = pipelines
        while len(self._versions) > KEPT_VERSIONS:
            self._versions.pop(next(iter(self._versions)))
        for listener in self._listeners:
            listener(self._schedules())

    def _schedules(self) -> Schedules:
        return {
            name: one.triggers.schedules
            for name, one in self.pipelines.items()
            if one.triggers.schedules
        }

    async def pipeline(self, name: str, version: str = "") -> Pipeline:
        """A pipeline of the current or of a named version. Raises NotFoundError."""
        pipelines: Mapping[str, Pipeline] | None = self.pipelines
        if version and version != self.version:
            pipelines = self._versions.get(version)
            if pipelines is None:
                pipelines = await self._load_version(version)
        if name not in (pipelines or {}):
            known = ", ".join(sorted(self.pipelines)) or "none"
            raise NotFoundError(f"no pipeline {name!r}; there are {known}")
        assert pipelines is not None  # noqa: S101 - the name is in it
        return pipelines[name]

    async def _load_version(self, version: str) -> Mapping[str, Pipeline]:
        found = await self._store.definitions(version)
        if found is None:
            raise NotFoundError(f"no definitions of version {version}")
        pipelines = load_pipelines(found[1], f"pipelines.yml {version}")
        self._versions[version] = pipelines
        return pipelines
