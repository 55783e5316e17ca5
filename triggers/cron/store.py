"""Fire times on disk: the row is the claim, so that each is called by one process only."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update

from service.database import Database
from triggers.tables import FIRES, SCHEDULES


@dataclass(frozen=True, slots=True)
class Claim:
    """A fire time that this process is to call."""

    schedule: str
    fire_time: int
    target: str

    @property
    def key(self) -> str:
        """The Idempotency-Key of its call, the same in every process."""
        return f"{self.schedule}/{self.fire_time}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call went. status: 0 when there was no response."""

    state: str
    started_at: float
    seconds: float
    status: int
    error: str


class FireStore:
    """Claims and results. owner: this process among those on the database."""

    def __init__(self, database: Database, owner: str) -> None:
        self._database, self._owner = database, owner
        self._insert_fire = database.insert_missing(FIRES).returning(FIRES.c.fire_time)
        self._insert_schedule = database.insert_missing(SCHEDULES)

    async def follow(self, schedules: Collection[str], now: float) -> Mapping[str, float]:
        """Per schedule the last time that was dealt with; those not named are forgotten.

        A schedule that is new begins now.
        """

        def work(connection: Connection) -> dict[str, float]:
            known = set(connection.scalars(select(SCHEDULES.c.id)))
            if gone := known - set(schedules):
                connection.execute(delete(SCHEDULES).where(SCHEDULES.c.id.in_(gone)))
            fresh = [{"id": one, "since": now} for one in schedules if one not in known]
            if fresh:
                connection.execute(self._insert_schedule, fresh)
            return {row.id: row.since for row in connection.execute(select(SCHEDULES))}

        return await self._database.write(work)

    async def claim(self, claim: Claim, until: float, state: str = "claimed") -> bool:
        """Whether this process got the fire time, durable before it returns."""
        row = _row(claim, self._owner, until, state)
        dealt_with = (
            update(SCHEDULES)
            .where(SCHEDULES.c.id == claim.schedule, SCHEDULES.c.since < claim.fire_time)
            .values(since=float(claim.fire_time))
        )

        def work(connection: Connection) -> bool:
            connection.execute(dealt_with)
            return connection.execute(self._insert_fire, row).first() is not None

        return await self._database.write(work)

    async def take_over(self, now: float, until: float, mine: bool) -> list[Claim]:
        """Expired claims without a result; with `mine` also those of this process's last life."""
        due = FIRES.c.claimed_until < now
        if mine:
            due |= FIRES.c.claimed_by == self._owner
        open_ = (FIRES.c.state == "claimed") & due

        def work(connection: Connection) -> list[Claim]:
            rows = connection.execute(
                update(FIRES)
                .where(open_)
                .values(claimed_by=self._owner, claimed_until=until)
                .returning(FIRES.c.schedule, FIRES.c.fire_time, FIRES.c.target)
            )
            return [Claim(*row) for row in rows]

        return await self._database.write(work)

    async def finish(self, claim: Claim, outcome: Outcome) -> None:
        """Record the result, durable before it returns."""
        values = {
            "state": outcome.state,
            "started_at": outcome.started_at,
            "seconds": outcome.seconds,
            "status": outcome.status,
            "error": outcome.error,
        }
        await self._database.write(
            lambda connection: connection.execute(
                update(FIRES)
                .where(FIRES.c.schedule == claim.schedule, FIRES.c.fire_time == claim.fire_time)
                .values(**values)
            )
        )

    async def last(self, limit: int, target: str = "") -> Sequence[Mapping[str, Any]]:
        """The newest fire times first."""
        query = select(FIRES)
        if target:
            query = query.where(FIRES.c.target == target)
        query = query.order_by(FIRES.c.fire_time.desc()).limit(limit)
        return await self._database.read(
            lambda connection: [dict(row) for row in connection.execute(query).mappings()]
        )

    async def forget_old(self, kept: int) -> int:
        """Drop all but the newest `kept` that have a result; returns how many went."""

        def work(connection: Connection) -> int:
            edge = connection.scalar(
                select(FIRES.c.fire_time).order_by(FIRES.c.fire_time.desc()).offset(kept).limit(1)
            )
            if edge is None:
                return 0
            done = delete(FIRES).where(FIRES.c.fire_time <= edge, FIRES.c.state != "claimed")
            return connection.execute(done).rowcount

        return await self._database.write(work)


def _row(claim: Claim, owner: str, until: float, state: str) -> dict[str, Any]:
    return {
        "schedule": claim.schedule,
        "fire_time": claim.fire_time,
        "target": claim.target,
        "state": state,
        "claimed_by": owner,
        "claimed_until": until,
        "started_at": None,
        "seconds": None,
        "status": None,
        "error": None,
    }
