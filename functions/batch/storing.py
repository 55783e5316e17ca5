"""Predictions as Parquet, written and joined by DuckDB."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from .reading import CONFIG


def write_part(signature: Mapping[str, Any], offset: int, response: Mapping[str, Any]) -> bytes:
    """A Parquet file of the response's rows, counted from `offset`."""
    columns = _columns(signature)
    names = list(columns)
    probabilities = response.get("probabilities") or [[]] * len(response["predictions"])
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        with rows.open("w", encoding="utf-8") as file:
            for at, (value, shares) in enumerate(
                zip(response["predictions"], probabilities, strict=True)
            ):
                row = dict(zip(names, (offset + at, value, *shares), strict=True))
                file.write(json.dumps(row) + "\n")
        types = ", ".join(f"{_text(name)}: {_text(kind)}" for name, kind in columns.items())
        source = (
            f"SELECT * FROM read_json({_text(str(rows))}, format = 'newline_delimited',"  # noqa: S608 - quoted
            f" columns = {{{types}}})"
        )
        return _written(source, Path(folder))


def join_parts(parts: Sequence[bytes]) -> bytes:
    """One Parquet file of all parts' rows, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for at, part in enumerate(parts):
            path = Path(folder) / f"{at:06}.parquet"
            path.write_bytes(part)
            paths.append(_text(str(path)))
        return _written(
            f"SELECT * FROM read_parquet([{', '.join(paths)}]) ORDER BY row",  # noqa: S608 - quoted
            Path(folder),
        )


def _written(query: str, folder: Path) -> bytes:
    target = folder / "written.out"
    with duckdb.connect(config=CONFIG) as connection:
        connection.execute(f"COPY ({query}) TO {_text(str(target))} (FORMAT parquet)")
    return target.read_bytes()


def _columns(signature: Mapping[str, Any]) -> dict[str, str]:
    """Names and types of the columns that predictions by this model have."""
    if signature["task"] == "regression":
        return {"row": "BIGINT", "prediction": "DOUBLE"}
    classes = signature["classes"]
    kind = "VARCHAR"
    if all(isinstance(one, bool) for one in classes):
        kind = "BOOLEAN"
    elif all(isinstance(one, int) and not isinstance(one, bool) for one in classes):
        kind = "BIGINT"
    shares = {f"probability_{one}": "DOUBLE" for one in classes}
    return {"row": "BIGINT", "prediction": kind, **shares}


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
