from dataclasses import dataclass

import pytest

from sluice.settings import Row, SettingError, load, parse_count, parse_duration, rows, setting


@dataclass(frozen=True, slots=True)
class Knobs:
    """Two knobs."""

    timeout: float = setting("KNOB_TIMEOUT", "30s", parse_duration, "How long, in seconds.")
    calls: int = setting("KNOB_CALLS", "4", parse_count, "How many.")


def test_absent_and_empty_variables_give_the_default() -> None:
    assert load(Knobs, {"KNOB_CALLS": ""}) == Knobs(30.0, 4)


def test_given_variable_wins_over_the_default() -> None:
    assert load(Knobs, {"KNOB_TIMEOUT": "1m"}).timeout == 60.0


def test_bad_value_is_named_with_its_variable_and_rule() -> None:
    with pytest.raises(SettingError, match=r"KNOB_CALLS='four': expected a whole number"):
        load(Knobs, {"KNOB_CALLS": "four"})


def test_unknown_variable_under_the_prefix_is_refused() -> None:
    with pytest.raises(SettingError, match=r"KNOB_CALL='1': expected one of KNOB_CALLS"):
        load(Knobs, {"KNOB_CALL": "1"}, prefix="KNOB_")


def test_rows_show_what_documentation_needs() -> None:
    assert rows(Knobs)[1] == Row("calls", "KNOB_CALLS", "4", "How many.")
