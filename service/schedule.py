"""Schedules: five fields, or six with seconds first, `@every 90s`, `@hourly` and the like.

The syntax is that of robfig/cron, the parser of OpenFaaS's cron-connector: a prefix
`CRON_TZ=Area/City ` sets the time zone, `;` separates several schedules.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter

from sluice.settings import parse_duration

NAMED: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
ZONE: Final = re.compile(r"(?:CRON_TZ|TZ)=(\S+)\s+(.*)", re.DOTALL)
# croniter accepts more than robfig/cron: hashes, random values, `l`, years.
FIELD: Final = re.compile(
    r"(?:[0-9*/,?-]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)+",
    re.IGNORECASE,
)
FIELDS: Final = frozenset({5, 6})
MOST: Final = 32
LONGEST: Final = 256


class ScheduleError(ValueError):
    """An invalid schedule; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to call. text: the original text; zone: a name of the tz database.

    every: seconds between two fire times, 0 for a cron expression.
    """

    text: str
    zone: str
    expression: str = ""
    interval: int = 0

    def next(self, after: float) -> float:
        """The first fire time later than `after`, both in seconds since the epoch.

        `@every` fires at multiples of its interval since the epoch, so that all processes agree,
        also after a restart. A local time skipped by a clock change fires once the clock is past
        it; a local time that occurs twice fires only the first time, unless the hour is `*`.
        inf when there is none.
        """
        if self.interval:
            return float((math.floor(after / self.interval) + 1) * self.interval)
        start = datetime.fromtimestamp(math.floor(after), _zone(self.zone))
        times = croniter(
            self.expression, start, ret_type=datetime, second_at_beginning=self._has_seconds
        )
        while True:
            try:
                found: datetime = times.get_next(datetime)
            except CroniterError:
                return math.inf
            moment = found.timestamp()
            if moment > after and not (found.fold and self._has_fixed_hour):
                return moment

    @property
    def _has_seconds(self) -> bool:
        return self.expression.count(" ") == 5

    @property
    def _has_fixed_hour(self) -> bool:
        return not self.expression.split(" ")[-4].startswith("*")


def parse_schedules(text: str, zone: str = "") -> list[Schedule | ScheduleError]:
    """Each schedule of an annotation in order, or its error. zone: the default time zone."""
    parts = [part.strip() for part in text.split(";")]
    parts = [part for part in parts if part] or [""]
    if len(parts) > MOST:
        return [ScheduleError(f"expected at most {MOST} schedules, got {len(parts)}")]
    found: list[Schedule | ScheduleError] = []
    for part in parts:
        try:
            found.append(parse_schedule(part, zone))
        except ScheduleError as error:
            found.append(error)
    return found


def parse_schedule(text: str, zone: str = "") -> Schedule:
    """The schedule in `text`. Raises ScheduleError."""
    if not text or len(text) > LONGEST:
        raise ScheduleError(f"schedule: expected 1 to {LONGEST} characters, got {len(text)}")
    named = ZONE.fullmatch(text)
    if named is not None:
        zone, rest = named[1], named[2].strip()
    else:
        zone, rest = zone or local_zone(), text.strip()
    try:
        _zone(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(f"schedule {text!r}: no time zone {zone!r}") from None
    if rest.startswith("@every"):
        return Schedule(text, zone, interval=_interval(text, rest))
    expression = _expression(text, rest)
    schedule = Schedule(text, zone, expression=expression)
    try:
        if schedule.next(0.0) == math.inf:
            raise ScheduleError(f"schedule {text!r}: there is no such date")
    except (CroniterError, ValueError, KeyError, OverflowError) as error:
        if isinstance(error, ScheduleError):
            raise
        raise ScheduleError(f"schedule {text!r}: {error}") from error
    return schedule


def local_zone() -> str:
    """The default time zone: UTC, because servers run in different zones."""
    return "UTC"


def _expression(text: str, rest: str) -> str:
    if rest.startswith("@"):
        if rest.lower() not in NAMED:
            expected = ", ".join(["@every DURATION", *sorted(NAMED)])
            raise ScheduleError(f"schedule {text!r}: expected one of {expected}")
        return NAMED[rest.lower()]
    fields = rest.split()
    if len(fields) not in FIELDS:
        raise ScheduleError(
            f"schedule {text!r}: expected 5 fields, or 6 with seconds, got {len(fields)}"
        )
    for field in fields:
        if not FIELD.fullmatch(field):
            raise ScheduleError(f"schedule {text!r}: field {field!r} is none of cron's")
    # robfig/cron accepts `?` for `*` in any field.
    return " ".join("*" if field == "?" else field for field in fields)


def _interval(text: str, rest: str) -> int:
    try:
        seconds = parse_duration(rest.removeprefix("@every").strip())
    except ValueError as error:
        raise ScheduleError(f"schedule {text!r}: expected @every and {error}") from error
    if seconds < 1 or seconds > 366 * 86400:
        raise ScheduleError(f"schedule {text!r}: expected 1 s to 366 days")
    return int(seconds)


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)
