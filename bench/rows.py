"""What a measurement says: one row of the results."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SIGNIFICANT: Final = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value. control: the same of the peer in the same run; ratio: value / control.

    target: what was to be reached, '' where the row only tells; ok: whether it was, None where
    there is no target. note: what one must know to read it, and why a target is missed.
    """

    name: str
    value: float
    unit: str
    control: float | None = None
    ratio: float | None = None
    target: str = ""
    ok: bool | None = None
    note: str = ""


def observed(
    name: str, value: float, unit: str, control: float | None = None, note: str = ""
) -> Row:
    """A row without a target."""
    ratio = value / control if control else None
    return Row(name, _short(value), unit, _shorted(control), _shorted(ratio), note=note)


def at_least(
    name: str, value: float, unit: str, least: float, control: float | None = None, note: str = ""
) -> Row:
    """A row whose ratio to the control, or value where there is none, must not be below `least`."""
    ratio = value / control if control else None
    return _judged(name, (value, control, ratio), unit, (f">= {least:g}", ratio, least, 1), note)


def at_most(
    name: str, value: float, unit: str, most: float, control: float | None = None, note: str = ""
) -> Row:
    """A row whose ratio to the control, or value where there is none, must not exceed `most`."""
    ratio = value / control if control else None
    return _judged(name, (value, control, ratio), unit, (f"<= {most:g}", ratio, most, -1), note)


def ratio_at_least(
    name: str, pairs: Sequence[tuple[float, float]], unit: str, least: float, note: str = ""
) -> Row:
    """As `at_least`, by the median ratio of interleaved slices (ours, theirs)."""
    value, control, ratio = medians(pairs)
    return _judged(name, (value, control, ratio), unit, (f">= {least:g}", ratio, least, 1), note)


def ratio_at_most(
    name: str, pairs: Sequence[tuple[float, float]], unit: str, most: float, note: str = ""
) -> Row:
    """As `at_most`, by the median ratio of interleaved slices (ours, theirs)."""
    value, control, ratio = medians(pairs)
    return _judged(name, (value, control, ratio), unit, (f"<= {most:g}", ratio, most, -1), note)


def ratio_observed(
    name: str, pairs: Sequence[tuple[float, float]], unit: str, note: str = ""
) -> Row:
    """The median ratio of interleaved slices (ours, theirs), without a target."""
    value, control, ratio = medians(pairs)
    return Row(name, _short(value), unit, _short(control), _short(ratio), note=note)


def medians(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Medians of ours, of theirs, and of the ratios slice by slice."""
    ours, theirs = zip(*pairs, strict=True)
    ratios = [mine / other for mine, other in pairs]
    return statistics.median(ours), statistics.median(theirs), statistics.median(ratios)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed: an observed one, never interpolated."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _judged(
    name: str,
    measured: tuple[float, float | None, float | None],
    unit: str,
    rule: tuple[str, float | None, float, int],
    note: str,
) -> Row:
    """rule: text, ratio, bound, and 1 where more is better or -1 where less is."""
    value, control, ratio = measured
    text, judged, bound, sign = rule
    held = (value if judged is None else judged) * sign >= bound * sign
    unit_text = f"{text} x" if judged is not None else f"{text} {unit}"
    return Row(name, _short(value), unit, _shorted(control), _shorted(ratio), unit_text, held, note)


def _short(value: float) -> float:
    """Four significant digits: what a noisy machine can say."""
    return float(f"{value:.{SIGNIFICANT}g}")


def _shorted(value: float | None) -> float | None:
    return None if value is None else _short(value)
