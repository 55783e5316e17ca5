"""The committed results as Markdown, for docs/performance.md."""

from bench.results import LATEST, cells, number, read
from bench.rows import Row

HEAD = ("", "value", "control", "ratio", "target", "")
TITLES = {
    "calls": "The call path",
    "bento": "BentoML",
    "bodies": "Uploads and open-loop latency",
    "starts": "Starts from zero, and memory",
    "batches": "Micro-batching",
    "asynchronous": "Asynchronous calls",
    "kafka": "Kafka",
    "pipelines": "Pipelines",
    "crowd": "Many functions, unequal neighbours",
    "scaling": "Scaling policies, simulated",
}


def machine_table() -> str:
    """What the results were measured on."""
    about, suites = read(LATEST)
    machine = about["machine"]
    python = machine["interpreter"]
    judged = [row for rows in suites.values() for row in rows if row.ok is not None]
    met = sum(row.ok is True for row in judged)
    lines = {
        "date": about["date"],
        "commit": about["commit"],
        "processor": f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']}",
        "kernel": machine["kernel"],
        "interpreter": python["version"],
        "its build": f"PGO {_known(python['pgo'])}, LTO {_known(python['lto'])}, "
        f"libpython {'shared' if python['shared'] else 'linked in'}",
        "load average before": number(machine["load_before"]),
        "took": f"{about['seconds']} s",
        "targets met": f"{met} of {len(judged)}",
    }
    if about.get("remark"):
        lines["remark"] = about["remark"]
    return "| | |\n|---|---|\n" + "".join(f"| {key} | {text} |\n" for key, text in lines.items())


def result_tables() -> str:
    """One table a suite."""
    _, suites = read(LATEST)
    return "\n".join(f"### {TITLES[name]}\n{_table(rows)}" for name, rows in suites.items())


def missed_names() -> list[str]:
    """Names of the rows that missed their target: the page must say why."""
    _, suites = read(LATEST)
    return [row.name for rows in suites.values() for row in rows if row.ok is False]


def _table(rows: list[Row]) -> str:
    lines = [(*HEAD, "note"), ("---",) * (len(HEAD) + 1)]
    lines += [(*cells(row), row.note) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _known(fact: bool | None) -> str:
    return {True: "yes", False: "no", None: "not told by the build"}[fact]
