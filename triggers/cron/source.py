"""Follows schedules: claims due fire times, takes over those that a killed process left."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final

from service.clock import Clock, SystemClock
from service.database import Database
from service.gateway_client import DeployedFunction, FunctionCaller
from service.schedule import Schedule
from triggers.cron.calling import LONGEST_DELAY, FireCaller, PipelineStarter, fire_time_text
from triggers.cron.entries import BadEntry, Entry, entries_of, make_entry, missed
from triggers.cron.store import Claim, FireStore, Outcome
from triggers.metrics import TriggersMetrics
from triggers.settings import TriggersSettings

LONGEST_WAIT: Final = 30.0  # so that a clock that was set is noticed
TIDY_EVERY: Final = 60.0
FAILED_DELAY: Final = 1.0
log = logging.getLogger(__name__)


class CronSource:
    """All schedules of one process."""

    def __init__(
        self,
        settings: TriggersSettings,
        gateway: FunctionCaller,
        database: Database,
        metrics: TriggersMetrics,
        pipelines: PipelineStarter,
        clock: Clock | None = None,
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self._clock = clock or SystemClock()
        self._store = FireStore(database, settings.process_name)
        self.caller = FireCaller(settings, gateway, self._store, metrics, pipelines, self._clock)
        self._functions: dict[str, Entry] = {}
        self._pipelines: dict[str, Entry] = {}
        self.bad: list[BadEntry] = []
        self._listed = self._stale = False
        self._tidied: float | None = None
        self._changed = asyncio.Event()
        self._done: dict[str, float] = {}

    @property
    def entries(self) -> dict[str, Entry]:
        """What is followed, by id."""
        return self._functions | self._pipelines

    def apply(self, functions: Iterable[DeployedFunction]) -> None:
        """Follow what these functions' annotations ask for: a catalog's listener."""
        entries, bad = entries_of(functions)
        for one in bad:
            if one not in self.bad:
                log.error("event=bad-schedule function=%s error=%s", one.target, one.error)
        if entries != self._functions or bad != self.bad or not self._listed:
            self._refollow()
        self._functions, self.bad, self._listed = entries, bad, True

    def apply_pipelines(self, schedules: Mapping[str, Sequence[Schedule]]) -> None:
        """Follow the schedules of pipelines, by name."""
        made = [make_entry("pipeline", name, s) for name, all_ in schedules.items() for s in all_]
        self._pipelines = {entry.id: entry for entry in made}
        self._refollow()

    async def run(self) -> None:
        """Call what is due until cancelled; a turn that the database fails is made again."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                try:
                    await self._turn(group)
                    pause = self._pause()
                except Exception:
                    log.exception("event=cron-turn-failed")
                    self._metrics.failures.labels("cron").inc()
                    self._stale, pause = True, FAILED_DELAY
                await self._clock.wait(pause, self._changed)

    async def _turn(self, group: asyncio.TaskGroup) -> None:
        now = self._clock.time()
        if self._tidied is None:
            await self._take_over(group, mine=True)
            self._tidied = now
        if self._stale and self._listed:
            self._stale = False
            await self._follow()
        await self._tick(group, now)
        if now - self._tidied >= TIDY_EVERY:
            self._tidied = now
            await self._take_over(group, mine=False)
            await self._store.forget_old(self._settings.cron_history)

    async def history(self, limit: int, target: str = "") -> Sequence[Mapping[str, Any]]:
        """The newest fire times first, as they stand in the database."""
        return await self._store.last(limit, target)

    def next_fire(self, entry: Entry) -> float:
        """When `entry` is called next."""
        return entry.schedule.next(self._clock.time())

    def _refollow(self) -> None:
        self._stale = True
        self._changed.set()

    async def _follow(self) -> None:
        entries = self.entries
        self._done = dict(await self._store.follow(entries, self._clock.time()))
        self._metrics.cron_schedules.set(len(entries))
        self._metrics.cron_bad_schedules.set(len(self.bad))
        log.info("event=following schedules=%d bad=%d", len(entries), len(self.bad))

    def _pause(self) -> float:
        now = self._clock.time()
        entries = self.entries
        moments = [entries[one].schedule.next(done) for one, done in self._done_of(entries)]
        return max(0.0, min([*moments, now + LONGEST_WAIT]) - now)

    def _done_of(self, entries: Mapping[str, Entry]) -> list[tuple[str, float]]:
        return [(one, done) for one, done in self._done.items() if one in entries]

    async def _tick(self, group: asyncio.TaskGroup, now: float) -> None:
        """Claim and call every fire time up to now; late ones by their misfire policy."""
        entries = self.entries
        for identity, done in self._done_of(entries):
            entry = entries[identity]
            if entry.schedule.next(done) > now:
                continue
            late = now - self._settings.cron_misfire_after
            times = [*await self._missed(entry, done, late), *_between(entry, max(done, late), now)]
            for moment in times:
                await self._fire(group, entry, moment)
            self._done[identity] = now

    async def _missed(self, entry: Entry, done: float, until: float) -> Sequence[int]:
        first = entry.schedule.next(done)
        if first > until:
            return ()
        times = missed(entry, done, until, self._settings.cron_backfill)
        if not times:
            # One row stands for all of them, as there may be any number.
            claim = Claim(entry.id, int(first), entry.target)
            if await self._store.claim(claim, 0.0, "skipped"):
                self._metrics.cron_fires.labels(entry.target, "skipped").inc()
                log.warning(
                    "event=missed target=%s first=%s policy=skip",
                    claim.target,
                    fire_time_text(claim),
                )
        return times

    async def _fire(self, group: asyncio.TaskGroup, entry: Entry, moment: int) -> None:
        claim = Claim(entry.id, moment, entry.target)
        busy = self.caller.busy(entry)
        state = "skipped" if busy else "claimed"
        if not await self._store.claim(claim, self._claimed_until(), state):
            return
        if busy:
            self._metrics.cron_fires.labels(entry.target, "skipped").inc()
            log.warning("event=overrun target=%s fire_time=%s", claim.target, fire_time_text(claim))
            return
        group.create_task(self._recorded(self.caller.call(entry, claim), claim))

    def _claimed_until(self) -> float:
        return (
            self._clock.time()
            + 2 * self._settings.upstream_timeout
            + self._settings.pipelines.lease
        )

    async def _take_over(self, group: asyncio.TaskGroup, mine: bool) -> None:
        """Call the claims without a result, whose process was killed."""
        for claim in await self._store.take_over(
            self._clock.time(), self._claimed_until(), mine=mine
        ):
            log.info("event=resumed target=%s fire_time=%s", claim.target, fire_time_text(claim))
            group.create_task(self._recorded(self._resume(claim), claim))

    async def _recorded(self, call: Awaitable[None], claim: Claim) -> None:
        """Await a call. One that is not recorded is made again, with its key, by a take-over."""
        try:
            await call
        except Exception:
            log.exception("event=fire-not-recorded target=%s key=%s", claim.target, claim.key)
            self._metrics.failures.labels("cron").inc()

    async def _resume(self, claim: Claim) -> None:
        while not self._listed:
            await self._clock.wait(LONGEST_DELAY)
        entry = self.entries.get(claim.schedule)
        if entry is None:
            gone = Outcome("failed", self._clock.time(), 0.0, 0, "the schedule is gone")
            await self._store.finish(claim, gone)
            return
        await self.caller.call(entry, claim)


def _between(entry: Entry, after: float, until: float) -> list[int]:
    times: list[int] = []
    moment = entry.schedule.next(after)
    while moment <= until and moment != math.inf:
        times.append(int(moment))
        moment = entry.schedule.next(moment)
    return times
