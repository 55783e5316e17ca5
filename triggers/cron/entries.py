"""The schedules that annotations and pipelines ask for, and those that do not parse."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from service.gateway_client import DeployedFunction
from service.schedule import Schedule, ScheduleError, parse_schedules
from sluice.labels import LabelError, check_known
from sluice.labels.events import (
    CRON,
    CRON_ASYNC,
    CRON_MISFIRE,
    CRON_PREFIX,
    CRON_TIMEZONE,
    CRON_TOPIC,
    EVENT_TOPIC,
    SCHEDULE,
)
from sluice.labels.values import Misfire


@dataclass(frozen=True, slots=True)
class Entry:
    """One schedule of one target. id: the same in every process and after a restart.

    kind: whether target is a function (NAME.NAMESPACE) or a pipeline. misfire: what becomes of
    fire times that no process was there for. asynchronous: call by the gateway's queue.
    """

    id: str
    kind: Literal["function", "pipeline"]
    target: str
    schedule: Schedule
    misfire: Misfire = "skip"
    asynchronous: bool = False


@dataclass(frozen=True, slots=True)
class BadEntry:
    """A schedule that is never called, and why."""

    target: str
    text: str
    error: str


def entries_of(
    functions: Iterable[DeployedFunction],
) -> tuple[dict[str, Entry], list[BadEntry]]:
    """The entries that the functions' annotations ask for, by id, and what is wrong with others."""
    good: dict[str, Entry] = {}
    bad: list[BadEntry] = []
    for function in functions:
        annotations = function.annotations
        if EVENT_TOPIC.read(annotations).strip() != CRON_TOPIC:
            continue
        text = SCHEDULE.read(annotations)
        try:
            check_known(annotations, CRON_PREFIX, CRON)
            misfire, asynchronous = CRON_MISFIRE.read(annotations), CRON_ASYNC.read(annotations)
        except LabelError as error:
            bad.append(BadEntry(function.address, text, f"annotation {error}"))
            continue
        zone = CRON_TIMEZONE.read(annotations)
        for found in parse_schedules(text, zone):
            if isinstance(found, ScheduleError):
                bad.append(BadEntry(function.address, text, str(found)))
                continue
            entry = make_entry("function", function.address, found, misfire, asynchronous)
            good[entry.id] = entry
    return good, bad


def make_entry(
    kind: Literal["function", "pipeline"],
    target: str,
    schedule: Schedule,
    misfire: Misfire = "skip",
    asynchronous: bool = False,
) -> Entry:
    """An entry with its id. Two equal schedules of one target are one."""
    key = "\n".join((kind, target, schedule.zone, schedule.expression or f"@{schedule.interval}"))
    identity = hashlib.sha256(key.encode()).hexdigest()[:16]
    return Entry(identity, kind, target, schedule, misfire, asynchronous)


def missed(entry: Entry, after: float, until: float, most: int) -> Sequence[int]:
    """Fire times later than `after` and not later than `until` that are to be made up for.

    Of run-once the newest, of backfill the newest `most`, of skip none.
    """
    kept = {"skip": 0, "run-once": 1, "backfill": most}[entry.misfire]
    if not kept:
        return ()
    start = max(after, _reach(entry, until, kept))
    times: list[int] = []
    moment = entry.schedule.next(start)
    while moment <= until:
        times.append(int(moment))
        moment = entry.schedule.next(moment)
    return [one for one in times if one > after][-kept:]


def _reach(entry: Entry, until: float, kept: int) -> float:
    """A time so far back that at least `kept` fire times lie between it and `until`, or 0.

    Found by doubling, so that a long absence costs what is kept and not what was missed.
    """
    step = 64.0
    while until - step > 0:
        moment, count = entry.schedule.next(until - step), 0
        while moment <= until and count < kept:
            count += 1
            moment = entry.schedule.next(moment)
        if count >= kept:
            return until - step
        step *= 8
    return 0.0
