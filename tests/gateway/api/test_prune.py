from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from gateway.api.prune import prune_router
from gateway.bundle_store import BundleRow
from gateway.bundles import MARKER, Bundles


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    bundles = Bundles(tmp_path)
    for digest in ("used", "gone", "newest"):
        bundles.environment(digest).mkdir()
        (bundles.environment(digest) / MARKER).touch()
        with bundles.staging() as staged:
            (staged / "code.py").write_text("x = 1\n")
            bundles.add(staged, BundleRow("fn:1", digest, digest, (), "app"))
    bundles.cache_dir.mkdir()
    (bundles.cache_dir / "wheel").write_bytes(b"x" * 500_000)
    app = FastAPI()
    app.include_router(prune_router(bundles, lambda: ["used"]))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
    bundles.close()


async def test_prune_tells_what_it_removed(client: httpx.AsyncClient, tmp_path: Path) -> None:
    answer = await client.post("/system/prune")
    assert answer.status_code == 200
    document = answer.json()
    assert (document["bundles"], document["environments"]) == (["gone"], ["gone"])
    assert 0 < document["freedBytes"] < 500_000
    assert sorted(path.name for path in (tmp_path / "bundles").iterdir()) == ["newest", "used"]


async def test_prune_of_the_cache_is_asked_for(client: httpx.AsyncClient, tmp_path: Path) -> None:
    answer = await client.post("/system/prune", params={"cache": "true"})
    assert answer.json()["freedBytes"] >= 500_000
    assert not (tmp_path / "uv-cache").exists()


async def test_prune_twice_removes_nothing_more(client: httpx.AsyncClient) -> None:
    await client.post("/system/prune")
    answer = await client.post("/system/prune")
    assert answer.json() == {"bundles": [], "environments": [], "freedBytes": 0}
