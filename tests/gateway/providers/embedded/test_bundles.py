import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.providers.embedded.bundle_store import BundleRow
from gateway.providers.embedded.bundles import MARKER, Bundle, Bundles
from gateway.types.errors import InvalidRequestError
from sluice.migrations import NewerSchemaError


@pytest.fixture
def bundles(tmp_path: Path) -> Iterator[Bundles]:
    opened = Bundles(tmp_path, history=3)
    yield opened
    opened.close()


def environment(bundles: Bundles, key: str, content: bytes = b"") -> None:
    folder = bundles.environment(key)
    folder.mkdir()
    (folder / "library").write_bytes(content)
    (folder / MARKER).touch()


def add(bundles: Bundles, image: str, digest: str, key: str = "env") -> Bundle:
    if not bundles.has_environment(key):
        environment(bundles, key)
    with bundles.staging() as staged:
        (staged / "function").mkdir()
        (staged / "function" / "handler.py").write_text("x = 1\n")
        return bundles.add(staged, BundleRow(image, digest, key, ("numpy",), "handle(req)"))


def test_image_resolves_to_its_newest_build(bundles: Bundles, tmp_path: Path) -> None:
    add(bundles, "fn:1", "d1")
    second = add(bundles, "fn:1", "d2")
    assert bundles.resolve("fn:1") == second
    assert second.folder == tmp_path / "bundles" / "d2"
    assert second.python == tmp_path / "environments" / "env" / "bin" / "python"
    assert (second.preload, second.form, second.lock_key) == (("numpy",), "handle(req)", "env")
    assert (second.folder / "function" / "handler.py").read_text() == "x = 1\n"


def test_older_build_stays_under_its_digest(bundles: Bundles) -> None:
    first = add(bundles, "fn:1", "d1")
    for number in range(2, 9):
        add(bundles, "fn:1", f"d{number}")
    assert bundles.get("d1") == first


@pytest.mark.parametrize("image", ["other", "fn:2", "fn@sha256:00", "", "../x"])
def test_image_that_was_not_built_is_none(bundles: Bundles, image: str) -> None:
    add(bundles, "fn:1", "d1")
    assert bundles.resolve(image) is None


def test_tag_latest_may_be_left_out(bundles: Bundles) -> None:
    add(bundles, "reg.example:5000/a/fn", "d1")
    found = bundles.resolve("reg.example:5000/a/fn:latest")
    assert found is not None
    assert bundles.resolve("reg.example:5000/a/fn") == found


def test_two_images_may_share_a_bundle(bundles: Bundles) -> None:
    add(bundles, "a:1", "d1")
    add(bundles, "b:1", "d1")
    found = bundles.resolve("a:1")
    assert found is not None
    assert (found.image, found.digest) == ("a:1", "d1")
    assert [(image.name, image.digest) for image in bundles.images()] == [
        ("a:1", "d1"), ("b:1", "d1"),
    ]  # fmt: skip


def test_bad_image_name_changes_nothing(bundles: Bundles) -> None:
    with pytest.raises(InvalidRequestError, match="'Fn'"):
        add(bundles, "Fn", "d1")
    assert list(bundles.bundles_dir.iterdir()) == []


def test_bundle_is_read_only(bundles: Bundles) -> None:
    folder = add(bundles, "fn:1", "d1").folder
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert modes == {0o555, 0o444}


def test_builds_outlive_the_process(bundles: Bundles, tmp_path: Path) -> None:
    made = add(bundles, "fn:1", "d1")
    bundles.close()
    again = Bundles(tmp_path)
    assert again.resolve("fn:1") == made
    again.close()


def test_file_of_a_newer_release_is_refused_as_it_is(bundles: Bundles, tmp_path: Path) -> None:
    add(bundles, "fn:1", "d1")
    bundles.close()
    with closing(sqlite3.connect(tmp_path / "bundles.sqlite")) as file:
        file.execute("PRAGMA user_version = 99")
        with pytest.raises(NewerSchemaError, match="schema 99, this release knows up to 1"):
            Bundles(tmp_path)
        assert file.execute("SELECT digest FROM bundles").fetchall() == [("d1",)]
    assert (tmp_path / "bundles" / "d1").is_dir()


def test_bundle_without_its_environment_is_none(bundles: Bundles) -> None:
    add(bundles, "fn:1", "d1")
    (bundles.environment("env") / MARKER).unlink()
    assert bundles.resolve("fn:1") is None


def test_history_of_equal_builds_is_bounded(bundles: Bundles, tmp_path: Path) -> None:
    for _ in range(10):
        add(bundles, "fn:1", "d1")
    assert len(bundles.store._rows("SELECT id FROM builds")) == 3


def test_half_made_is_removed_at_start(bundles: Bundles, tmp_path: Path) -> None:
    add(bundles, "fn:1", "d1")
    left_behind = (
        "bundles/.new-x/function", "bundles/unrecorded", "bundles/.gone-d2-00", ".gone-uv-cache-00",
        "environments/half/lib", "environments/.gone-whole-00",
    )  # fmt: skip
    for left in left_behind:
        (tmp_path / left).mkdir(parents=True)
        (tmp_path / left / "file").touch()
    (tmp_path / "bundles/unrecorded").chmod(0o555)
    (tmp_path / "environments/.gone-whole-00" / MARKER).touch()
    bundles.close()
    again = Bundles(tmp_path)
    assert [path.name for path in again.bundles_dir.iterdir()] == ["d1"]
    assert [path.name for path in again.environments_dir.iterdir() if path.is_dir()] == ["env"]
    assert list(tmp_path.glob(".gone-*")) == []
    again.close()


def test_build_under_way_is_not_taken_for_half_made(bundles: Bundles, tmp_path: Path) -> None:
    with bundles.staging() as staged:
        other = Bundles(tmp_path)
        other.close()
        assert staged.is_dir()
    assert not staged.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from gateway import folders
from gateway.providers.embedded.bundle_store import BundleRow
from gateway.providers.embedded.bundles import MARKER, Bundles
bundles = Bundles(Path(sys.argv[1]))
bundles.environment("env").mkdir()
(bundles.environment("env") / MARKER).touch()
with bundles.staging() as staged:
    (staged / "function").mkdir()
    if sys.argv[2] == "before":
        folders.sync_tree = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[2] == "between":
        bundles.store.record = lambda row: os.kill(os.getpid(), signal.SIGKILL)
    bundles.add(staged, BundleRow("fn:1", "d1", "env", (), "app"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("moment", "kept"), [("before", 0), ("between", 0), ("after", 1)])
def test_killed_builder_leaves_a_whole_build_or_none(
    tmp_path: Path, moment: str, kept: int
) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path, moment], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "bundles").iterdir())) == 1
    again = Bundles(tmp_path)
    assert len(list(again.bundles_dir.iterdir())) == kept
    assert (again.resolve("fn:1") is not None) is bool(kept)
    again.close()


def test_prune_keeps_what_is_newest_or_in_use(bundles: Bundles) -> None:
    environment(bundles, "old-env", b"x" * 100_000)
    add(bundles, "fn:1", "used", "old-env")
    add(bundles, "fn:1", "gone", "old-env")
    add(bundles, "fn:1", "newest", "new-env")
    add(bundles, "other:1", "others", "new-env")
    first = bundles.prune({"used"})
    assert (first.bundles, first.environments) == (("gone",), ())
    assert first.freed_bytes >= 4096
    second = bundles.prune([])
    assert (second.bundles, second.environments) == (("used",), ("old-env",))
    assert second.freed_bytes >= 100_000
    assert bundles.get("used") is None
    assert [image.digest for image in bundles.images()] == ["newest", "others"]
    assert bundles.resolve("fn:1") is not None
    assert bundles.prune([]).freed_bytes == 0


def test_prune_of_files_that_are_linked_elsewhere_frees_nothing(
    bundles: Bundles, tmp_path: Path
) -> None:
    environment(bundles, "old", b"x" * 100_000)
    (tmp_path / "elsewhere").hardlink_to(bundles.environment("old") / "library")
    pruned = bundles.prune([])
    assert pruned.environments == ("old",)
    assert pruned.freed_bytes < 100_000


def test_prune_empties_the_cache_of_what_no_environment_uses(bundles: Bundles) -> None:
    environment(bundles, "kept", b"x" * 100_000)
    add(bundles, "fn:1", "d1", "kept")
    bundles.cache.folder.mkdir()
    (bundles.cache.folder / "used").hardlink_to(bundles.environment("kept") / "library")
    (bundles.cache.folder / "unused").write_bytes(b"x" * 200_000)
    assert 200_000 <= bundles.prune([]).freed_bytes < 300_000
    assert not bundles.cache.folder.exists()
    assert (bundles.environment("kept") / "library").read_bytes() == b"x" * 100_000


def test_prune_spares_the_environment_of_a_build_under_way(bundles: Bundles) -> None:
    environment(bundles, "fresh")
    with bundles.hold("fresh"):
        assert bundles.prune([]).environments == ()
    assert bundles.prune([]).environments == ("fresh",)


def test_prune_forgets_the_resolutions_of_what_it_removes(bundles: Bundles) -> None:
    add(bundles, "fn:1", "d1", "kept")
    bundles.store.keep_resolution("a", "kept", "lock a")
    bundles.store.keep_resolution("b", "gone", "lock b")
    bundles.prune([])
    assert bundles.store.resolution("a") == "lock a"
    assert bundles.store.resolution("b") is None


def test_cache_is_emptied_above_its_limit_when_idle(bundles: Bundles) -> None:
    assert bundles.cache.trim(0) == 0
    bundles.cache.folder.mkdir()
    (bundles.cache.folder / "wheel").write_bytes(b"x" * 50_000)
    assert bundles.cache.trim(100_000) == 0
    with bundles.cache.hold():
        assert bundles.cache.trim(0) == 0
    assert bundles.cache.trim(10_000) >= 50_000
    assert not bundles.cache.folder.exists()
