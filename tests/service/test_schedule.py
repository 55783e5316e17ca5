from datetime import datetime
from itertools import accumulate, repeat
from zoneinfo import ZoneInfo

import pytest

from service.schedule import ScheduleError, parse_schedule, parse_schedules

BERLIN = "CRON_TZ=Europe/Berlin"


def times(text: str, start: str, count: int, zone: str = "") -> list[str]:
    """The next fire times after `start`, both local to the schedule."""
    schedule = parse_schedule(text, zone)
    at = ZoneInfo(schedule.zone)
    begin = datetime.fromisoformat(start).replace(tzinfo=at).timestamp()
    moments = list(accumulate(repeat(begin, count + 1), lambda last, _: schedule.next(last)))[1:]
    return [datetime.fromtimestamp(one, at).isoformat() for one in moments]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/20 * * * *", ["2026-03-01T00:20:00+00:00", "2026-03-01T00:40:00+00:00"]),
        ("*/30 * * * * *", ["2026-03-01T00:00:30+00:00", "2026-03-01T00:01:00+00:00"]),
        ("0 30 9 * * MON-FRI", ["2026-03-02T09:30:00+00:00", "2026-03-03T09:30:00+00:00"]),
        ("0 0 1 JAN ?", ["2027-01-01T00:00:00+00:00", "2028-01-01T00:00:00+00:00"]),
        ("@hourly", ["2026-03-01T01:00:00+00:00", "2026-03-01T02:00:00+00:00"]),
        ("@every 90s", ["2026-03-01T00:01:30+00:00", "2026-03-01T00:03:00+00:00"]),
        ("@every 1h30m", ["2026-03-01T01:30:00+00:00", "2026-03-01T03:00:00+00:00"]),
    ],
)
def test_schedule_fires_as_cron_connector_reads_it(text: str, expected: list[str]) -> None:
    assert times(text, "2026-03-01T00:00:00", 2) == expected


def test_time_that_the_clock_skips_fires_once_the_clock_is_past_it() -> None:
    assert times(f"{BERLIN} 30 2 * * *", "2026-03-28T12:00:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_fixed_hour_that_comes_twice_fires_once() -> None:
    assert times(f"{BERLIN} 30 2 * * *", "2026-10-24T12:00:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_every_hour_fires_in_the_hour_that_comes_twice_too() -> None:
    assert times(f"{BERLIN} 30 * * * *", "2026-10-25T01:45:00", 3) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:30:00+01:00",
    ]


def test_zone_of_the_annotation_holds_unless_the_schedule_names_one() -> None:
    assert parse_schedule("0 9 * * *", "Asia/Tokyo").zone == "Asia/Tokyo"
    assert parse_schedule(f"{BERLIN} 0 9 * * *", "Asia/Tokyo").zone == "Europe/Berlin"
    assert parse_schedule("0 9 * * *").zone == "UTC"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected 1 to 256 characters"),
        ("* * *", "expected 5 fields, or 6 with seconds, got 3"),
        ("* * * * * * *", "got 7"),
        ("61 * * * *", "out of range"),
        ("0 0 31 2 *", "no such date"),
        ("R * * * *", "field 'R'"),
        ("CRON_TZ=Mars/Base * * * * *", "no time zone 'Mars/Base'"),
        ("CRON_TZ=../../etc/passwd * * * * *", "no time zone"),
        ("@often", "expected one of @every DURATION"),
        ("@every soon", "expected @every and a duration"),
        ("@every 10ms", "expected 1 s to 366 days"),
    ],
)
def test_schedule_that_is_none_says_what_was_expected(text: str, told: str) -> None:
    with pytest.raises(ScheduleError, match="schedule") as caught:
        parse_schedule(text)
    assert told in str(caught.value)


def test_schedules_between_semicolons_are_read_one_by_one() -> None:
    first, bad, last = parse_schedules("0 9 * * *; often ;@daily;")
    assert isinstance(bad, ScheduleError)
    assert [getattr(one, "text", "") for one in (first, last)] == ["0 9 * * *", "@daily"]
