import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import httpx
import pytest

from tests.registry.flow import IRIS, put_dataset
from tests.registry.serving import serving, settings_for


async def chunks(count: int) -> AsyncIterator[bytes]:
    """A body of unknown length, 1000 bytes a chunk."""
    for _ in range(count):
        yield b"1\n" * 500


async def test_upload_is_described_and_served_in_each_format(client: httpx.AsyncClient) -> None:
    version = await put_dataset(client)
    assert (version["name"], version["version"], version["rows"]) == ("iris", 1, 3)
    assert version["sha256"] == hashlib.sha256(IRIS).hexdigest()
    assert version["bytes"] == len(IRIS)
    assert [column["type"] for column in version["columns"]] == ["float", "float", "string"]
    assert version["columns"][1]["missing"] == 1
    assert version["created_by"] == "admin"
    for form in ("parquet", "csv", "original"):
        content = await client.get(f"/datasets/iris/versions/latest/content?format={form}")
        assert content.status_code == 200
        digest = hashlib.sha256(content.content).hexdigest()
        assert digest == version["files"][form]["sha256"]
        assert content.headers["etag"] == f'"{digest}"'
    original = await client.get("/datasets/iris/versions/1/content?format=original")
    assert original.content == IRIS


async def test_same_content_again_is_the_same_version_and_other_content_the_next(
    client: httpx.AsyncClient,
) -> None:
    first = await put_dataset(client)
    again = await client.post("/datasets/iris", content=IRIS)
    assert (again.status_code, again.json()) == (200, first)
    second = await put_dataset(client, content=IRIS + b"5.8,2.7,virginica\n")
    assert second["version"] == 2
    listed = (await client.get("/datasets")).json()["datasets"]
    assert [(one["name"], one["latest"], one["rows"]) for one in listed] == [("iris", 2, 4)]
    versions = (await client.get("/datasets/iris")).json()
    assert [one["version"] for one in versions["versions"]] == [1, 2]
    assert versions["versions"][0]["columns"] == 3
    assert (await client.get("/datasets/iris/versions/1")).json() == first
    told = [event["data"]["version"] for event in (await client.get("/events")).json()["events"]]
    assert told == [1, 2]


async def test_same_content_read_otherwise_is_another_version(client: httpx.AsyncClient) -> None:
    content = b"a,b\nc,d\n"
    named = await client.post("/datasets/x", content=content)
    unnamed = await client.post("/datasets/x?header=false", content=content)
    assert [named.json()["version"], unnamed.json()["version"]] == [1, 2]
    assert unnamed.json()["rows"] == 2


async def test_same_content_at_once_makes_one_version(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*[client.post("/datasets/x", content=IRIS) for _ in range(4)])
    assert sorted(response.status_code for response in answers) == [200, 200, 200, 201]
    assert {response.json()["version"] for response in answers} == {1}


async def test_parquet_upload_is_known_by_its_first_bytes(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = tmp_path / "made.parquet"
    with duckdb.connect() as connection:
        connection.sql("SELECT range AS x FROM range(9)").write_parquet(str(path))
    response = await client.post("/datasets/x", content=path.read_bytes())
    assert response.status_code == 201, response.text
    assert (response.json()["format"], response.json()["rows"]) == ("parquet", 9)


async def test_upload_over_the_limit_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, DATASET_BYTES="64Ki")
    async with serving(settings) as client:
        announced = await client.post("/datasets/x", content=b"a\n" + b"1\n" * 40_000)
        unannounced = await client.post("/datasets/x", content=chunks(80))
        for response in (announced, unannounced):
            assert response.status_code == 413
            assert "expected at most 65536 bytes" in response.json()["error"]
        assert (await client.get("/datasets")).json()["datasets"] == []
        assert list((settings.artifacts_dir / "tmp").iterdir()) == []


async def test_table_that_unpacks_beyond_its_metadata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    with duckdb.connect() as connection:
        bomb = connection.sql("SELECT repeat('x', 100000) AS x FROM range(3000)")
        bomb.write_parquet(str(path), compression="zstd")
    content = path.read_bytes()
    assert len(content) < 1 << 20
    settings = settings_for(tmp_path, TABLE_BYTES="16Mi")
    async with serving(settings) as client:
        response = await client.post("/datasets/x", content=content)
        assert response.status_code == 413, response.text
        assert "16777216 bytes" in response.json()["error"]
        assert list((settings.artifacts_dir / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("query", "kind", "status", "told"),
    [
        ("", "application/json", 415, "Content-Type: expected text/csv"),
        ("", "multipart/form-data; boundary=x", 415, "with the file itself as the body"),
        ("?format=xlsx", "text/csv", 400, "format"),
        ("?delimiter=ab", "text/csv", 400, "delimiter: expected one ASCII character"),
        ("?header=perhaps", "text/csv", 400, "header"),
        ("?max_rejects=nan", "text/csv", 400, "max_rejects"),
        ("?separator=;", "text/csv", 400, "separator"),
        ("?format=parquet", "text/csv", 400, "does not begin with PAR1"),
    ],
)
async def test_upload_asked_wrongly_is_refused(
    client: httpx.AsyncClient, query: str, kind: str, status: int, told: str
) -> None:
    response = await client.post(
        f"/datasets/x{query}", content=IRIS, headers={"Content-Type": kind}
    )
    assert response.status_code == status, response.text
    assert told in response.json()["error"]


@pytest.mark.parametrize("name", ["..", "a b", "-x", ".hidden", "x" * 129, "a%2Fb"])
async def test_name_outside_the_rule_is_refused(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post(f"/datasets/{name}", content=IRIS)
    assert response.status_code in {400, 404, 405}
    assert (await client.get("/datasets")).json()["datasets"] == []


async def test_tab_separated_file_is_read_by_its_content_type(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/datasets/x",
        content=b"a\tb\n1\tx\n",
        headers={"Content-Type": "text/tab-separated-values"},
    )
    assert response.json()["reading"] == {"delimiter": "\t", "header": True}


async def test_pages_of_datasets_follow_each_other(client: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await put_dataset(client, name)
    first = (await client.get("/datasets?limit=2")).json()
    assert ([one["name"] for one in first["datasets"]], first["next"]) == (["a", "b"], "b")
    rest = (await client.get("/datasets?limit=2&after=b")).json()
    assert ([one["name"] for one in rest["datasets"]], rest["next"]) == (["c"], None)
    assert (await client.get("/datasets?limit=0")).status_code == 400
    assert (await client.get("/datasets?limit=1001")).status_code == 400


async def test_version_that_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    await put_dataset(client)
    for path in ("/datasets/none", "/datasets/iris/versions/2", "/datasets/none/versions/latest"):
        response = await client.get(path)
        assert response.status_code == 404
        assert "no dataset" in response.json()["error"]


async def test_more_uploads_than_may_wait_are_told_to_come_back(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, INGEST_AT_ONCE="1", INGEST_WAITING="0")
    async with serving(settings) as client:
        answers = await asyncio.gather(
            *[client.post("/datasets/x", content=IRIS + b"%d,,x\n" % n) for n in range(3)]
        )
        states = sorted(response.status_code for response in answers)
        assert states == [201, 503, 503]
        busy = next(response for response in answers if response.status_code == 503)
        assert busy.headers["retry-after"] == "5"


async def test_reading_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async with serving(settings_for(tmp_path, INGEST_TIMEOUT="1ms")) as client:
        response = await client.post("/datasets/x", content=IRIS)
        assert response.status_code == 413
        assert "took longer than 0.001 s" in response.json()["error"]
        assert (await client.get("/datasets")).json()["datasets"] == []


async def test_table_over_its_memory_is_refused_and_the_registry_lives(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, INGEST_MEMORY="8Mi", INGEST_THREADS="1", TABLE_BYTES="1Mi")
    async with serving(settings) as client:
        wide = b",".join(b"c%d" % number for number in range(200))
        rows = b"".join(
            b",".join(b"%d%d" % (n, m) for m in range(200)) + b"\n" for n in range(3000)
        )
        response = await client.post("/datasets/x", content=wide + b"\n" + rows)
        assert response.status_code == 413, response.text
        assert (await client.get("/healthz")).status_code == 200


async def test_caller_that_goes_away_leaves_no_file(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with serving(settings) as client:
        _, writer = await asyncio.open_unix_connection(str(settings.socket_path))
        writer.write(
            b"POST /datasets/x HTTP/1.1\r\nhost: r\r\nx-sluice-identity: admin\r\n"
            b"content-length: 9000000\r\n\r\na,b\n"
        )
        left = settings.artifacts_dir / "tmp"
        async with asyncio.timeout(60):
            while not list(left.iterdir()):  # noqa: ASYNC110 - a folder is watched
                await asyncio.sleep(0.01)
            writer.close()
            while list(left.iterdir()):  # noqa: ASYNC110 - a folder is watched
                await asyncio.sleep(0.01)
        assert (await client.get("/datasets")).json()["datasets"] == []
        text = (await client.get("/metrics")).text
        assert 'code="500"' not in text
