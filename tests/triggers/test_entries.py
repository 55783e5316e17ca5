import pytest

from service.gateway_client import DeployedFunction
from service.schedule import parse_schedule
from triggers.cron.entries import entries_of, make_entry, missed

DAY = 86_400


def function(**annotations: str) -> DeployedFunction:
    named = {name.replace("_", "."): value for name, value in annotations.items()}
    return DeployedFunction("report", "openfaas-fn", named, {}, 1, 1)


def test_entries_are_made_for_the_topic_of_cron_only() -> None:
    assert entries_of([function(topic="cron-function, other", schedule="* * * * *")]) == ({}, [])
    good, bad = entries_of([function(topic="cron-function", schedule="* * * * *;@hourly")])
    assert {one.schedule.text for one in good.values()} == {"* * * * *", "@hourly"}
    assert {one.target for one in good.values()} == {"report.openfaas-fn"}
    assert bad == []


def test_entry_keeps_its_id_over_restarts_and_the_same_time_is_one_entry() -> None:
    once, _ = entries_of([function(topic="cron-function", schedule="0 0 * * *; @daily")])
    again, _ = entries_of([function(topic="cron-function", schedule="@daily")])
    assert once.keys() == again.keys()
    assert len(once) == 1


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        ({"schedule": "never"}, "5 fields"),
        ({}, "1 to 256 characters"),
        ({"schedule": "@daily", "com_sluice_cron_misfire": "catch-up"}, "skip, run-once, backfill"),
        ({"schedule": "@daily", "com_sluice_cron_async": "maybe"}, "true or false"),
        ({"schedule": "@daily", "com_sluice_cron_zone": "UTC"}, "expected one of com.sluice.cron"),
        ({"schedule": "@daily", "com_sluice_cron_timezone": "X/Y"}, "no time zone 'X/Y'"),
    ],
)
def test_bad_annotation_is_an_error_that_names_the_function(
    annotations: dict[str, str], told: str
) -> None:
    good, bad = entries_of([function(topic="cron-function", **annotations)])
    assert good == {}
    assert [(one.target, told in one.error) for one in bad] == [("report.openfaas-fn", True)]


def test_options_are_read_from_annotations() -> None:
    options = {"com_sluice_cron_misfire": "backfill", "com_sluice_cron_async": "true"}
    good, _ = entries_of([function(topic="cron-function", schedule="@daily", **options)])
    (entry,) = good.values()
    assert (entry.misfire, entry.asynchronous) == ("backfill", True)


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [("skip", []), ("run-once", [9 * DAY]), ("backfill", [7 * DAY, 8 * DAY, 9 * DAY])],
)
def test_missed_times_follow_the_policy(misfire: str, expected: list[int]) -> None:
    entry = make_entry("function", "x", parse_schedule("@daily"), misfire)  # type: ignore[arg-type]  # parametrized
    assert list(missed(entry, 2.0 * DAY, 9.5 * DAY, 3)) == expected


def test_missed_times_of_a_year_in_seconds_cost_no_walk_through_the_year() -> None:
    entry = make_entry("function", "x", parse_schedule("* * * * * *"), "backfill")
    year = 365.0 * DAY
    assert list(missed(entry, 0.0, year, 5)) == [int(year) - at for at in (4, 3, 2, 1, 0)]
