"""Every row of the "Bad CSV" table of the ML contract, as a file sent to a running registry."""

import httpx
import pytest

ROWS = b"".join(b"%d,%d,%d\n" % (n, n + 1, n + 2) for n in range(40))
NAMES = b"a,b,c\n"
MANY = 3000

REFUSED = {
    "extra field in most rows": (NAMES + b"1,2,3,4\n" * 3, "line 2: expected 3 fields, got 4"),
    "missing field in most rows": (NAMES + b"1,2\n" * 3, "line 2: expected 3 fields, got 2"),
    "latin-1": (NAMES + ROWS + b"1,caf\xe9,3\n", "line 42: expected UTF-8, got byte 0xe9"),
    "unterminated quote": (NAMES + ROWS + b'1,"2,3\n4,5,6\n', "line 42: a quote that opens"),
    "duplicate names": (b"a,b,a\n" + ROWS, "line 1: columns 1 and 3 are both named 'a'"),
    "names that differ in case": (b"a,b,A\n" + ROWS, "line 1: columns 1 and 3 are both named"),
    "empty name": (b"a,,c\n" + ROWS, "line 1: column 2 of 3 has an empty name"),
    "empty file": (b"", "line 1: expected column names, the file is empty"),
    "blank file": (b"\n\n", "expected at least one column"),
    "names only": (NAMES, "line 2: expected at least one row"),
    "NUL byte": (NAMES + ROWS + b"1,\x00,3\n", "line 42: expected text, got a NUL byte"),
    "all values infinite": (b"a\ninf\n1e400\n", "line 2, column a: expected a finite number"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "starts with the mark of UTF-16"),
    "UTF-16 without mark": ("a,b\n1,2\n".encode("utf-16-le"), "line 1: expected text, got a NUL"),
    "UTF-32": ("a,b\n1,2\n".encode("utf-32"), "starts with the mark of UTF-32"),
    "no names": (b"1,2\n3,4\n", "line 1: expected column names, got numbers ('1')"),
    "line without end": (b"a\n" + b"x" * 2_100_000, "line 2: expected at most 2000000 bytes"),
}


@pytest.mark.parametrize("fault", REFUSED)
async def test_upload_with_fault_is_refused_and_nothing_is_stored(
    client: httpx.AsyncClient, fault: str
) -> None:
    content, told = REFUSED[fault]
    response = await client.post("/datasets/bad", content=content)
    assert response.status_code == 400, response.text
    assert told in response.json()["error"]
    assert (await client.get("/datasets")).json()["datasets"] == []
    assert (await client.get("/datasets/bad")).status_code == 404
    assert (await client.get("/events")).json()["events"] == []


OTHERS = {
    b'[{"a": 1}, {"a": 2}]': "JSON",
    b'{"a": 1}\n{"a": 2}\n': "JSON",
    b"\xef\xbb\xbf [[1, 2]]": "JSON",
    b"<!DOCTYPE html>\n<html></html>": "HTML or XML",
    b"%PDF-1.7\n": "PDF",
    b"\x89PNG\r\n\x1a\n": "a picture",
    b"SQLite format 3\0": "a SQLite database",
    b"\x1f\x8b\x08": "gzip",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet",
}


@pytest.mark.parametrize("content", OTHERS)
async def test_file_that_is_no_table_is_refused_by_what_it_is(
    client: httpx.AsyncClient, content: bytes
) -> None:
    response = await client.post("/datasets/bad", content=content)
    assert response.status_code == 415
    told = f"expected CSV or Parquet, the file is {OTHERS[content]}"
    assert response.json() == {"error": told}
    assert (await client.get("/datasets")).json()["datasets"] == []


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"PAR1", "too small to be a Parquet file"), (b"PAR1" + b"x" * 50 + b"PAR1", "Footer")],
)
async def test_broken_parquet_is_told_what_is_wrong_without_a_path(
    client: httpx.AsyncClient, content: bytes, told: str
) -> None:
    response = await client.post("/datasets/bad", content=content)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error.startswith("expected a whole Parquet file: ")
    assert told in error
    assert "/" not in error


async def test_semicolons_under_a_forced_comma_are_refused_naming_both(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/datasets/bad?delimiter=,", content=b"a;b\n1;2\n")
    assert response.status_code == 400
    assert "line 1: expected columns separated by comma" in response.json()["error"]
    assert "semicolon" in response.json()["error"]


async def test_semicolons_are_found_and_decimal_commas_stay_text_with_a_note(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/datasets/prices", content=b"a;b\n1;2,5\n3;4,5\n")
    assert response.status_code == 201, response.text
    version = response.json()
    assert version["reading"] == {"delimiter": ";", "header": True}
    assert [column["type"] for column in version["columns"]] == ["integer", "string"]
    assert "'b' is text: all of its values are numbers with a decimal comma" in version["notes"][0]


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (b"1,2,3,4\n", "", "expected 3 fields, got 4"),
        (b"1,2\n", "", "expected 3 fields, got 2"),
        (b'4,"x"y,6\n', "b", "a quote within the field"),
    ],
)
async def test_row_that_does_not_fit_is_rejected_by_line_and_the_rest_kept(
    client: httpx.AsyncClient, row: bytes, column: str, reason: str
) -> None:
    response = await client.post("/datasets/some", content=NAMES + ROWS + row + ROWS)
    assert response.status_code == 201, response.text
    version = response.json()
    assert version["rows"] == 80
    assert version["rejects"]["count"] == 1
    reject = version["rejects"]["rows"][0]
    assert (reject["line"], reject["column"]) == (42, column)
    assert reason in reject["reason"]


@pytest.mark.parametrize("value", [b"inf", b"-Infinity", b"1e400"])
async def test_infinite_value_in_a_number_column_is_rejected_by_line(
    client: httpx.AsyncClient, value: bytes
) -> None:
    content = NAMES + ROWS + b"1," + value + b",3\n" + ROWS
    version = (await client.post("/datasets/some", content=content)).json()
    assert version["columns"][1]["type"] == "float"
    assert version["rows"] == 80
    assert version["rejects"] == {
        "count": 1,
        "rows": [
            {
                "line": 42,
                "column": "b",
                "reason": f"expected a finite number, got {value.decode()!r}",
            }
        ],
    }


async def test_one_word_in_a_number_column_makes_it_text_with_a_note_naming_the_line(
    client: httpx.AsyncClient,
) -> None:
    rows = [b"%d,%d\n" % (n, n) for n in range(MANY)]
    rows[2999] = b"2999,many\n"
    version = (await client.post("/datasets/some", content=b"a,b\n" + b"".join(rows))).json()
    assert [column["type"] for column in version["columns"]] == ["integer", "string"]
    assert version["notes"] == [
        "column 'b' is text: 99.9 % of its values are numbers, line 3001 holds 'many'"
    ]


async def test_reject_limit_of_the_caller_counts(client: httpx.AsyncClient) -> None:
    content = NAMES + b"1,2,3\n1,2\n"
    assert (await client.post("/datasets/some", content=content)).status_code == 400
    kept = await client.post("/datasets/some?max_rejects=0.5", content=content)
    assert kept.status_code == 201
    assert kept.json()["rows"] == 1
    assert (await client.post("/datasets/other?max_rejects=2", content=content)).status_code == 400
