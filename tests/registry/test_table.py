"""How uploads are read, without HTTP: lines, types, statistics, Parquet, the sandbox."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from registry.datasets.job import CSV_FILE, PARQUET_FILE, Job, RefusedError
from registry.datasets.table import open_sandbox, read_table


def job_for(folder: Path, content: bytes, **changed: Any) -> Job:
    source, work = folder / "upload", folder / "work"
    source.write_bytes(content)
    work.mkdir()
    values: dict[str, Any] = {
        "source": str(source),
        "folder": str(work),
        "form": None,
        "delimiter": None,
        "header": None,
        "reject_share": 0.5,
        "table_columns": 50,
        "table_rows": 10_000,
        "table_bytes": 1 << 26,
        "categories": 2,
        "memory": 1 << 28,
        "threads": 1,
    }
    return Job(**{**values, **changed})


def read(folder: Path, content: bytes, **changed: Any) -> dict[str, Any]:
    return read_table(job_for(folder, content, **changed))


def column(table: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in table["columns"] if one["name"] == name)
    return found


def parquet(folder: Path, select: str) -> bytes:
    path = folder / "made.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", " 3 "], "integer"),
        (["1", "NA", ""], "integer"),
        (["1.5", "2", "1e3"], "float"),
        (["true", "False", "nan"], "boolean"),
        (["2026-11-22", ""], "date"),
        (["2026-11-22 05:04:33", "2026-11-22T05:04:33.5Z"], "timestamp"),
        (["2026-02-30", "x"], "string"),
        (["007", "12"], "string"),
        (["99999999999999999999", "1"], "string"),
        (["1_000", "2"], "string"),
        (["yes", "no"], "string"),
        (["", ""], "string"),
    ],
)
def test_type_fits_every_value_of_the_column(tmp_path: Path, values: list[str], kind: str) -> None:
    text = "x,y\n" + "".join(f"{value},k\n" for value in values)
    table = read(tmp_path, text.encode())
    assert column(table, "x")["type"] == kind
    assert table["rows"] == len(values)


def test_lines_are_those_of_the_file_behind_quoted_line_breaks(tmp_path: Path) -> None:
    text = 'a,b\n1,"x\n\ny"\n1,2,3\n2,"é"\n3\ninf,z\n4.5,w\n'
    table = read(tmp_path, text.encode())
    assert [(reject["line"], reject["column"]) for reject in table["rejects"]["rows"]] == [
        (5, ""),
        (7, ""),
        (8, "a"),
    ]
    assert table["rows"] == 3


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_kind_and_a_mark_are_read(tmp_path: Path, end: str) -> None:
    lines = ["\ufeffname,n", "a,1", "b", "", "c,3", "d,4,5", "e,6", ""]
    table = read(tmp_path, end.join(lines).encode())
    assert [one["name"] for one in table["columns"]] == ["name", "n"]
    assert table["rows"] == 3
    assert [reject["line"] for reject in table["rejects"]["rows"]] == [3, 6]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    rows = [["name", "text"], ["a", '"x, y; z"'], ["b", '"p|q"']]
    table = read(tmp_path, "\n".join(delimiter.join(row) for row in rows).encode())
    assert table["reading"]["delimiter"] == delimiter
    assert [one["name"] for one in table["columns"]] == ["name", "text"]


def test_single_column_with_commas_in_its_values_rejects_those_rows(tmp_path: Path) -> None:
    table = read(tmp_path, b"word\nx\ny,z\nw\n")
    assert table["rows"] == 2
    assert table["rejects"]["rows"][0]["line"] == 3


def test_rejected_line_that_is_cut_within_a_character_is_shown(tmp_path: Path) -> None:
    rows = "".join(f"{'x' * n}{'é' * 60},b,c\n" for n in range(4)) + "a,b\n" * 4
    table = read(tmp_path, ("n,m\n" + rows).encode())
    assert [reject["line"] for reject in table["rejects"]["rows"]] == [2, 3, 4, 5]
    assert table["rows"] == 4


def test_many_rejects_are_counted_and_some_are_shown(tmp_path: Path) -> None:
    rows = b"1,2\n" * 400 + b"inf,inf\n" * 90 + b"1\n" * 80
    table = read(tmp_path, b"a,b\n" + rows)
    assert table["rejects"]["count"] == 170
    assert len(table["rejects"]["rows"]) == 100
    lines = {reject["line"] for reject in table["rejects"]["rows"]}
    assert lines <= set(range(402, 572))
    assert table["rows"] == 400


def test_rejects_beyond_those_shown_do_not_name_a_wrong_line(tmp_path: Path) -> None:
    rows = b"1,2\n" * 400 + b"1\n" * 150 + b"1,2\n" * 5 + b"inf,2\n"
    table = read(tmp_path, b"a,b\n" + rows)
    assert table["rejects"]["count"] == 151
    assert {reject["line"] for reject in table["rejects"]["rows"]} <= set(range(402, 502))


def test_file_without_names_is_read_when_told(tmp_path: Path) -> None:
    table = read(tmp_path, b"1,x\n2,y\n", header=False)
    assert [one["name"] for one in table["columns"]] == ["column_1", "column_2"]
    assert table["rows"] == 2


def test_number_statistics_are_those_of_the_values(tmp_path: Path) -> None:
    text = "x,k\n" + "".join(f"{n},v\n" for n in range(1, 11)) + "NA,v\n"
    found = column(read(tmp_path, text.encode()), "x")
    assert (found["missing"], found["nullable"], found["distinct"]) == (1, True, 10)
    assert (found["min"], found["max"], found["mean"]) == (1, 10, 5.5)
    assert found["std"] == pytest.approx(3.0276503540974917)
    assert found["deciles"] == pytest.approx([1 + 0.9 * n for n in range(11)])
    assert found["histogram"]["counts"] == [1] * 10


def test_bins_of_a_column_with_few_values_are_its_unique_deciles(tmp_path: Path) -> None:
    text = "x,k\n" + "0,v\n" * 95 + "1,v\n" * 5
    histogram = column(read(tmp_path, text.encode()), "x")["histogram"]
    assert histogram == {"edges": [0.0, 1.0], "counts": [100]}


def test_constant_column_has_one_bin(tmp_path: Path) -> None:
    found = column(read(tmp_path, b"x,k\n7,v\n7,v\n"), "x")
    assert found["histogram"] == {"edges": [7.0], "counts": [2]}
    assert found["std"] == 0


def test_categories_are_the_most_frequent_values_and_the_rest_is_counted(tmp_path: Path) -> None:
    found = column(read(tmp_path, b"x,k\n" + b"b,1\n" * 3 + b"a,1\n" * 3 + b"c,1\nd,1\n,1\n"), "x")
    assert found["categories"] == [{"value": "a", "count": 3}, {"value": "b", "count": 3}]
    assert (found["other"], found["missing"], found["distinct"]) == (2, 1, 4)


def test_huge_values_have_no_mean_rather_than_an_infinite_one(tmp_path: Path) -> None:
    found = column(read(tmp_path, b"x,k\n1e308,a\n-1e308,b\n1.5e308,c\n"), "x")
    assert (found["max"], found["mean"], found["std"]) == (1.5e308, None, None)


def test_written_files_hold_the_clean_rows(tmp_path: Path) -> None:
    job = job_for(tmp_path, b'x;name\n1;"a ""b"""\n;c\n1;2;3\nNA;\n')
    read_table(job)
    text = (Path(job.folder) / CSV_FILE).read_text()
    assert text == 'x,name\n1,"a ""b"""\n,c\n,\n'
    with duckdb.connect() as connection:
        rows = connection.execute(f"FROM '{Path(job.folder) / PARQUET_FILE}'").fetchall()
    assert rows == [(1, 'a "b"'), (None, "c"), (None, None)]


def test_parquet_is_read_with_its_types(tmp_path: Path) -> None:
    content = parquet(
        tmp_path,
        "SELECT 1::SMALLINT AS i, 1.5::DECIMAL(9, 2) AS d, 'a' AS s, true AS b, "
        "DATE '2026-11-22' AS day, TIMESTAMPTZ '2026-11-22 05:00:00+02' AS t, 'nan'::FLOAT AS f",
    )
    table = read(tmp_path, content)
    assert [one["type"] for one in table["columns"]] == [
        "integer",
        "float",
        "string",
        "boolean",
        "date",
        "timestamp",
        "float",
    ]
    assert column(table, "t")["min"] == "2026-11-22T03:00:00"
    assert column(table, "f")["missing"] == 1


@pytest.mark.parametrize(
    ("select", "told"),
    [
        ("SELECT [1, 2] AS x", "column 'x': expected plain values, got a nested type"),
        ("SELECT '\\xAA'::BLOB AS x", "column 'x': expected numbers, text"),
        ("SELECT 18446744073709551615::UBIGINT AS x", "expected values that fit 64 bits"),
        ("SELECT 1 AS x LIMIT 0", "expected at least one row"),
        ("SELECT 'a' || chr(0) AS x", "column 'x', row 1: expected text, got a NUL"),
        ("SELECT 'inf'::DOUBLE AS x", "expected a finite number, got 'inf'"),
    ],
)
def test_parquet_that_can_not_be_used_is_refused(tmp_path: Path, select: str, told: str) -> None:
    content = parquet(tmp_path, select)
    with pytest.raises(RefusedError) as caught:
        read(tmp_path, content)
    assert told in str(caught.value)


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + b"x" * 100, b"PAR1" + b"\0" * 60 + b"PAR1"])
def test_broken_parquet_is_refused_without_a_path_in_the_error(
    tmp_path: Path, content: bytes
) -> None:
    with pytest.raises(RefusedError) as caught:
        read(tmp_path, content)
    assert "expected a whole Parquet file" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_cut_parquet_is_refused(tmp_path: Path) -> None:
    content = parquet(tmp_path, "SELECT range AS x FROM range(1000)")
    with pytest.raises(RefusedError, match="expected a whole Parquet file"):
        read(tmp_path, content[:-50])


def test_parquet_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    content = parquet(tmp_path, "SELECT repeat('x', 100) AS x, range AS y FROM range(200000)")
    assert len(content) < 1 << 20
    with pytest.raises(RefusedError, match="bytes unpacked") as caught:
        read(tmp_path, content, table_bytes=1 << 20, table_rows=1 << 20)
    assert caught.value.status == 413


def test_table_with_too_many_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="expected at most 10000 rows, got 10001") as caught:
        read(tmp_path, b"a\n" + b"1\n" * 10_001)
    assert caught.value.status == 413


def test_table_with_too_many_columns_is_refused(tmp_path: Path) -> None:
    names = b",".join(b"c%d" % number for number in range(51))
    with pytest.raises(RefusedError, match="expected at most 50 columns, got 51") as caught:
        read(tmp_path, names + b"\n1\n")
    assert caught.value.status == 413


@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08\x00", b"PK\x03\x04"])
def test_archive_is_refused_as_another_kind(tmp_path: Path, magic: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        read(tmp_path, magic + b"x" * 20)
    assert caught.value.status == 415


def test_form_that_is_not_the_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="expected Parquet, the file does not begin with PAR1"):
        read(tmp_path, b"a\n1\n", form="parquet")


def test_sandbox_reaches_the_upload_and_nothing_else(tmp_path: Path) -> None:
    other = tmp_path / "secret.csv"
    other.write_text("a\n1\n")
    job = job_for(tmp_path, b"a\n1\n")
    with open_sandbox(job) as connection:
        assert connection.execute(f"FROM read_csv('{job.source}')").fetchall() == [(1,)]
        for forbidden in (
            f"FROM read_csv('{other}')",
            f"FROM read_text('{other}')",
            f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
            f"ATTACH '{tmp_path / 'other.db'}'",
            "SET enable_external_access = true",
            "INSTALL httpfs",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(forbidden)
    assert not (tmp_path / "out.csv").exists()
