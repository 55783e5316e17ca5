"""Definitions, runs and results on disk. Every method returns once its write is durable."""

import hashlib
import json
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Float, Select, bindparam, delete, func, insert, select, update

from pipelines.errors import BusyError, ConflictError, NotFoundError
from pipelines.records import OPEN, Result, Run, RunState, Start
from pipelines.tables import DEFINITIONS, RUNS, STEPS
from service.database import Database


class RunStore:
    """owner: this process among those on the database. lease: seconds a new run is held."""

    def __init__(self, database: Database, owner: str, lease: float) -> None:
        self._database, self.owner, self._lease = database, owner, lease
        self._insert_result = database.insert_missing(STEPS)
        self._insert_run = database.insert_missing(RUNS).returning(RUNS.c.id)
        self._set_state = (
            update(RUNS)
            .where(RUNS.c.id == bindparam("run"))
            .values(
                state=bindparam("new_state"),
                error=bindparam("new_error"),
                started_at=func.coalesce(bindparam("new_start", type_=Float), RUNS.c.started_at),
                ended_at=bindparam("new_end"),
            )
        )

    async def put_definitions(self, source: str) -> str:
        """Store `source` as the current definitions and return its version."""
        version = hashlib.sha256(source.encode()).hexdigest()[:16]
        put = self._database.insert_missing(DEFINITIONS)
        row = {"version": version, "source": source, "activated_at": time.time()}
        again = (
            update(DEFINITIONS)
            .where(DEFINITIONS.c.version == version)
            .values(activated_at=row["activated_at"])
        )

        def work(connection: Connection) -> str:
            connection.execute(put, row)
            connection.execute(again)
            return version

        return await self._database.write(work)

    async def definitions(self, version: str = "") -> tuple[str, str] | None:
        """Version and source of the definitions that are current, or of that version."""
        query = select(DEFINITIONS.c.version, DEFINITIONS.c.source)
        if version:
            query = query.where(DEFINITIONS.c.version == version)
        query = query.order_by(DEFINITIONS.c.activated_at.desc()).limit(1)

        def work(connection: Connection) -> tuple[str, str] | None:
            row = connection.execute(query).first()
            return None if row is None else (row.version, row.source)

        return await self._database.read(work)

    async def create(
        self, start: Start, version: str, value: Mapping[str, Any], begin: bool, waiting: int
    ) -> tuple[Run, bool]:
        """The run and whether it is new. begin: it starts at once; waiting: how many may wait.

        Raises ConflictError where the key was used with another input, BusyError.
        """
        row = self._new_row(start, version, json.dumps(value), begin)

        def work(connection: Connection) -> tuple[Run, bool]:
            if not begin:
                count = select(func.count()).where(RUNS.c.state == "waiting")
                if (connection.scalar(count) or 0) >= waiting:
                    raise BusyError(f"{waiting} runs wait already; try again later")
            if connection.execute(self._insert_run, row).first() is not None:
                return _run(row), True
            return self._first(connection, row), False

        return await self._database.write(work)

    def _first(self, connection: Connection, row: Mapping[str, Any]) -> Run:
        known = (
            connection.execute(
                select(RUNS).where(RUNS.c.pipeline == row["pipeline"], RUNS.c.key == row["key"])
            )
            .mappings()
            .one()
        )
        if known["request_sha256"] != row["request_sha256"]:
            raise ConflictError(
                f"Idempotency-Key {row['key']!r} started run {known['id']} with another input;"
                " expected a new key for a new run"
            )
        return _run(dict(known))

    async def copy(self, parent: str, start: Start, keep: Collection[str], begin: bool) -> Run:
        """A new run of the parent's input that begins with its results of the steps `keep`."""

        def work(connection: Connection) -> Run:
            old = connection.execute(select(RUNS).where(RUNS.c.id == parent)).mappings().first()
            if old is None:
                raise NotFoundError(f"no run {parent}")
            row = self._new_row(start, old["version"], old["input"], begin) | {"parent": parent}
            if connection.execute(self._insert_run, row).first() is None:
                return self._first(connection, row)
            done = select(STEPS).where(STEPS.c.run == parent, STEPS.c.step.in_(keep))
            results = [
                dict(result) | {"run": row["id"]} for result in connection.execute(done).mappings()
            ]
            if results:
                connection.execute(insert(STEPS), results)
            return _run(row)

        return await self._database.write(work)

    def _new_row(self, start: Start, version: str, value: str, begin: bool) -> dict[str, Any]:
        now = time.time()
        return {
            "id": new_id(now),
            "pipeline": start.pipeline,
            "version": version,
            "state": "running" if begin else "waiting",
            "cause": start.cause,
            "key": start.key,
            "request_sha256": hashlib.sha256(value.encode()).hexdigest(),
            "input": value,
            "error": None,
            "parent": None,
            "cancel": 0,
            "owner": self.owner,
            "leased_until": now + self._lease,
            "created_at": now,
            "started_at": now if begin else None,
            "ended_at": None,
        }

    async def record(self, run: str, result: Result) -> None:
        """Record a result; a step or item keeps its first one."""
        row = {
            "run": run,
            "step": result.step,
            "item": result.item,
            "state": result.state,
            "input": result.input,
            "output": result.output,
            "error": result.error,
            "status": result.status,
            "attempts": result.attempts,
            "started_at": result.started_at,
            "seconds": result.seconds,
        }
        await self._database.append(self._insert_result, row)

    async def set_state(self, run: str, state: RunState, error: str | None = None) -> None:
        """Set a run's state; `running` sets its start, the others but `waiting` its end."""
        now = time.time()
        row = {
            "run": run,
            "new_state": state,
            "new_error": error,
            "new_start": now if state == "running" else None,
            "new_end": None if state in OPEN else now,
        }
        await self._database.append(self._set_state, row)

    async def results(self, run: str) -> list[Result]:
        """Everything recorded of a run."""
        query = select(STEPS).where(STEPS.c.run == run)

        def work(connection: Connection) -> list[Result]:
            rows = connection.execute(query).mappings()
            return [Result(**{n: v for n, v in row.items() if n != "run"}) for row in rows]

        return await self._database.read(work)

    async def row(self, run: str) -> Mapping[str, Any]:
        """A run's row. Raises NotFoundError."""
        query = select(RUNS).where(RUNS.c.id == run)
        found = await self._database.read(
            lambda connection: connection.execute(query).mappings().first()
        )
        if found is None:
            raise NotFoundError(f"no run {run}")
        return dict(found)

    async def rows(
        self, pipeline: str, state: str, before: str, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """Runs, newest first, beginning after the run `before`."""
        query: Select[Any] = select(RUNS)
        for column, value in ((RUNS.c.pipeline, pipeline), (RUNS.c.state, state)):
            query = query.where(column == value) if value else query
        query = query.where(RUNS.c.id < before) if before else query
        query = query.order_by(RUNS.c.id.desc()).limit(limit)
        return await self._database.read(
            lambda connection: [dict(row) for row in connection.execute(query).mappings()]
        )

    async def take(self, now: float, until: float, mine: bool) -> list[Run]:
        """Take the open runs whose lease ran out; with `mine` also those of this owner."""
        own = RUNS.c.owner == self.owner
        free = (RUNS.c.leased_until < now) & ~own
        if mine:
            free |= own
        taken = (
            update(RUNS)
            .where(RUNS.c.state.in_(OPEN), free)
            .values(owner=self.owner, leased_until=until)
            .returning(*RUNS.c)
        )

        def work(connection: Connection) -> list[Run]:
            rows = connection.execute(taken).mappings().all()
            return sorted((_run(dict(row)) for row in rows), key=lambda run: run.id)

        return await self._database.write(work)

    async def renew(self, until: float) -> list[str]:
        """Extend this owner's leases; returns the runs that are to be cancelled."""
        mine = (RUNS.c.owner == self.owner) & RUNS.c.state.in_(OPEN)

        def work(connection: Connection) -> list[str]:
            connection.execute(update(RUNS).where(mine).values(leased_until=until))
            return list(connection.scalars(select(RUNS.c.id).where(mine, RUNS.c.cancel == 1)))

        return await self._database.write(work)

    async def ask_cancel(self, run: str) -> bool:
        """Mark a run to be cancelled; False where it has ended."""
        asked = update(RUNS).where(RUNS.c.id == run, RUNS.c.state.in_(OPEN)).values(cancel=1)
        return await self._database.write(
            lambda connection: connection.execute(asked).rowcount == 1
        )

    async def forget_old(self, kept: int) -> int:
        """Drop all but the newest `kept` ended runs with their results; returns how many went.

        Definitions that no run goes by and that are not the current ones go too.
        """
        ended = select(RUNS.c.id).where(RUNS.c.state.not_in(OPEN)).order_by(RUNS.c.id.desc())
        newest = select(DEFINITIONS.c.version).order_by(DEFINITIONS.c.activated_at.desc()).limit(1)
        unused = delete(DEFINITIONS).where(
            DEFINITIONS.c.version.not_in(select(RUNS.c.version)),
            DEFINITIONS.c.version != newest.scalar_subquery(),
        )

        def work(connection: Connection) -> int:
            gone = list(connection.scalars(ended.offset(kept).limit(1000)))
            if gone:
                connection.execute(delete(STEPS).where(STEPS.c.run.in_(gone)))
                connection.execute(delete(RUNS).where(RUNS.c.id.in_(gone)))
            connection.execute(unused)
            return len(gone)

        return await self._database.write(work)


def new_id(now: float) -> str:
    """An id that sorts by time."""
    return f"{int(now * 1000):011x}{secrets.token_hex(6)}"


def _run(row: Mapping[str, Any]) -> Run:
    return Run(
        row["id"],
        row["pipeline"],
        row["version"],
        json.loads(row["input"]),
        row["cause"],
        row["created_at"],
        row["parent"],
    )
