from pathlib import Path

import pytest

from gateway.queue.blobs import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    made = Blobs(tmp_path / "blobs")
    made.open()
    return made


def test_blob_is_there_once_it_is_finished(blobs: Blobs) -> None:
    writer = blobs.writer("one")
    writer.write(b"a")
    writer.write(b"b")
    assert list(blobs.names()) == []
    writer.finish()
    assert list(blobs.names()) == ["one"]
    assert blobs.read("one") == b"ab"


def test_discarded_blob_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    writer = blobs.writer("one")
    writer.write(b"a")
    writer.discard()
    assert list((tmp_path / "blobs").iterdir()) == []


def test_what_a_killed_gateway_was_writing_is_removed(blobs: Blobs, tmp_path: Path) -> None:
    blobs.write("whole", b"x")
    half = blobs.writer("half")
    half.write(b"x")
    Blobs(tmp_path / "blobs").open()
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == ["whole"]
    half.discard()


def test_removal_of_what_is_gone_is_no_error(blobs: Blobs) -> None:
    blobs.write("one", b"x")
    blobs.remove(["one", "two"])
    assert list(blobs.names()) == []
