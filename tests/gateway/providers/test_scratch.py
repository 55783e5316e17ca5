"""Folders as a function may leave them: deep, locked, full of links, too many files."""

import os
from pathlib import Path

from gateway.providers.embedded import scratch

DEEPER_THAN_RECURSION = 3000
BLOCK = 4096


def dig(folder: Path, levels: int) -> None:
    """A chain of folders too long for any path, with a file at its end."""
    folder.mkdir(exist_ok=True)
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def put(path: Path, blocks: int, used: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * blocks * BLOCK)
    os.utime(path, (used, used))
    return path


def test_chain_deeper_than_recursion_is_removed(tmp_path: Path) -> None:
    dig(tmp_path / "own", DEEPER_THAN_RECURSION)
    scratch.remove(tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


def test_locked_folders_are_removed(tmp_path: Path) -> None:
    (tmp_path / "own" / "a" / "b").mkdir(parents=True)
    (tmp_path / "own" / "a" / "b" / "file").touch()
    for folder in ("own/a/b", "own/a", "own"):
        (tmp_path / folder).chmod(0)
    scratch.remove(tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


def test_link_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "file", 1, 1.0)
    own = tmp_path / "own"
    own.mkdir()
    (own / "folder").symlink_to(outside.parent)
    (own / "file").symlink_to(outside)
    (own / "loop").symlink_to(own)
    scratch.remove(own)
    assert not own.exists()
    assert outside.exists()


def test_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "file", 1, 1.0)
    (tmp_path / "own").symlink_to(outside.parent)
    scratch.remove(tmp_path / "own")
    assert scratch.trim(tmp_path / "own", 0) == 0
    assert outside.exists()


def test_trim_removes_what_was_used_longest_ago(tmp_path: Path) -> None:
    names = ("b/old", "a/middle", "new")
    files = [put(tmp_path / name, 4, used) for used, name in enumerate(names)]
    assert scratch.trim(tmp_path, 9 * BLOCK) >= 3 * BLOCK
    assert [file.exists() for file in files] == [False, True, True]


def test_trim_leaves_what_fits(tmp_path: Path) -> None:
    file = put(tmp_path / "file", 4, 1.0)
    assert scratch.trim(tmp_path, 4 * BLOCK) == 0
    assert file.exists()


def test_trim_removes_nothing_through_a_link(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "file", 4, 1.0)
    own = tmp_path / "own"
    own.mkdir()
    (own / "folder").symlink_to(outside.parent)
    scratch.trim(own, 0)
    assert outside.exists()


def test_folder_too_deep_to_measure_is_emptied(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    dig(own / "deep", DEEPER_THAN_RECURSION)
    for number in range(3):
        put(own / f"file{number}", 1, 1.0)
    assert scratch.measure(own).whole is False
    scratch.trim(own, 1 << 30)
    assert list(own.iterdir()) == []


def test_missing_folder_holds_nothing(tmp_path: Path) -> None:
    assert scratch.measure(tmp_path / "none").files == ()
    scratch.remove(tmp_path / "none")


def test_too_many_files_to_measure_are_removed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    for number in range(scratch.MOST_FILES + 1):
        folder = own / str(number // 1000)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).touch()
    assert scratch.measure(own).whole is False
    scratch.trim(own, 1 << 30)
    assert list(own.iterdir()) == []
