"""Results as a file, and as a table on a terminal."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.rows import Row
from testbed.platform import ROOT

LATEST: Final = ROOT / "bench" / "results" / "latest.json"
Suites = dict[str, list[Row]]


def write(path: Path, about: dict[str, Any], suites: Suites) -> None:
    """Write the results, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    document = {
        **about,
        "suites": {name: [asdict(r) for r in rows] for name, rows in suites.items()},
    }
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(document, indent=1) + "\n")
    scratch.replace(path)


def read(path: Path) -> tuple[dict[str, Any], Suites]:
    """What `write` wrote: about the run, and its rows."""
    about = json.loads(path.read_text())
    suites = about.pop("suites")
    return about, {name: [Row(**row) for row in rows] for name, rows in suites.items()}


def missed(rows: Sequence[Row]) -> list[Row]:
    """Those that had a target and did not reach it."""
    return [row for row in rows if row.ok is False]


def cells(row: Row) -> tuple[str, str, str, str, str, str]:
    """A row as text: name, value, control, ratio, target, verdict."""
    return (
        row.name,
        f"{number(row.value)} {row.unit}".strip(),
        number(row.control),
        number(row.ratio),
        row.target,
        {True: "ok", False: "MISSED", None: ""}[row.ok],
    )


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned columns."""
    lines = [("", "value", "control", "ratio", "target", ""), *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ""
    for line in lines:
        padded = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text += "  ".join(padded).rstrip() + "\n"
    return text


def number(value: float | None) -> str:
    """A number without needless digits, '' for none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
