import hashlib
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from registry.blobs import Blobs, DamagedBlobError, Spooled
from registry.errors import NotFoundError, StorageFullError, TooLargeError


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    made = Blobs(tmp_path / "artifacts")
    made.prepare()
    return made


def files(blobs: Blobs) -> set[str]:
    found = (path for path in blobs.folder.rglob("*") if path.is_file())
    return {str(path.relative_to(blobs.folder)) for path in found}


async def test_body_is_kept_under_its_digest(blobs: Blobs) -> None:
    chunks = [b"a" * 700_000, b"b" * 700_000, b"c"]
    spooled = await blobs.spool(body(*chunks), 2_000_000)
    digest = hashlib.sha256(b"".join(chunks)).hexdigest()
    assert (spooled.sha256, spooled.size) == (digest, 1_400_001)
    blobs.adopt(spooled)
    assert blobs.path(digest).read_bytes() == b"".join(chunks)
    assert files(blobs) == {f"{digest[:2]}/{digest}"}


async def test_same_content_again_is_one_file(blobs: Blobs) -> None:
    for _ in range(2):
        blobs.adopt(await blobs.spool(body(b"same"), 10))
    assert len(files(blobs)) == 1


async def test_body_over_the_limit_leaves_nothing(blobs: Blobs) -> None:
    with pytest.raises(TooLargeError, match="expected at most 5 bytes"):
        await blobs.spool(body(b"abc", b"def"), 5)
    assert files(blobs) == set()


async def test_body_that_breaks_off_leaves_nothing(blobs: Blobs) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a" * 2_000_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.spool(broken(), 1 << 30)
    assert files(blobs) == set()


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow over 64 KiB: what a full disk looks like to a writer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
async def test_full_disk_is_told_and_leaves_nothing(blobs: Blobs) -> None:
    with pytest.raises(StorageFullError):
        await blobs.spool(body(b"a" * 100_000), 1 << 20)
    assert files(blobs) == set()


@pytest.mark.parametrize("name", ["../../etc/passwd", "a" * 63, "A" * 64, "", "a" * 64])
def test_path_that_is_no_known_digest_is_not_found(blobs: Blobs, name: str) -> None:
    with pytest.raises(NotFoundError):
        blobs.path(name)


async def test_changed_file_is_found_out(blobs: Blobs) -> None:
    spooled = await blobs.spool(body(b"whole"), 10)
    blobs.adopt(spooled)
    blobs.verify(spooled.sha256)
    blobs.path(spooled.sha256).write_bytes(b"other")
    with pytest.raises(DamagedBlobError, match="is damaged"):
        blobs.verify(spooled.sha256)


def test_start_empties_what_was_half_made(blobs: Blobs) -> None:
    (blobs.workspace() / "table.csv").write_text("a")
    (blobs.tmp / "upload").write_text("a")
    kept = Spooled(blobs.tmp / "whole", hashlib.sha256(b"x").hexdigest(), 1)
    kept.path.write_bytes(b"x")
    blobs.adopt(kept)
    assert blobs.prepare() == 2
    assert files(blobs) == {f"{kept.sha256[:2]}/{kept.sha256}"}
