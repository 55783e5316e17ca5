"""Version 2 against a folder that looks like its tree; version 1 runs in test_embedded."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.providers.embedded.cgroups import Groups, Limits, find_groups

DATA_DIR = Path("/somewhere/.sluice")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of version 2 whose top hands memory and cpu on, as systemd sets it up."""
    root = tmp_path / "cgroup"
    own = root if os.geteuid() == 0 else root / "user"
    own.mkdir(parents=True)
    for folder in {root, own}:
        (folder / "cgroup.controllers").write_text("cpu io memory pids")
        (folder / "cgroup.subtree_control").write_text("cpu memory")
    return root


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own"
    path.write_text("0::/user\n")
    return path


@pytest.fixture
def groups(root: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> Groups:
    mkdir = Path.mkdir

    def make(self: Path, mode: int = 0o777) -> None:
        # The kernel puts these files into a new folder.
        mkdir(self, mode)
        (self / "cgroup.controllers").write_text("cpu memory")
        (self / "cgroup.subtree_control").touch()

    monkeypatch.setattr(Path, "mkdir", make)
    found = find_groups(DATA_DIR, root, own)
    assert found is not None
    return found


def folder_of(root: Path) -> Path:
    (folder,) = root.rglob("sluice-*")
    return folder


def test_limits_are_written_where_version_2_reads_them(groups: Groups, root: Path) -> None:
    group = groups.create("one-1", Limits(memory=64 << 20, cpu=0.5))
    folder = folder_of(root) / "one-1"
    assert (folder / "memory.max").read_text() == str(64 << 20)
    assert (folder / "memory.oom.group").read_text() == "1"
    assert (folder / "cpu.max").read_text() == "50000 100000"
    assert list(group.join_files()) == [folder / "cgroup.procs"]


def test_limits_of_a_group_can_be_set_anew(groups: Groups, root: Path) -> None:
    group = groups.create("warm-1", Limits(memory=64 << 20, cpu=0.5))
    group.limit(Limits(memory=32 << 20, cpu=1.5))
    folder = folder_of(root) / "warm-1"
    assert (folder / "memory.max").read_text() == str(32 << 20)
    assert (folder / "cpu.max").read_text() == "150000 100000"


def test_usage_and_end_are_read_back(groups: Groups, root: Path) -> None:
    group = groups.create("one-1", Limits(memory=64 << 20))
    folder = folder_of(root) / "one-1"
    assert (group.memory_bytes(), group.peak_bytes(), group.out_of_memory()) == (None, None, False)
    (folder / "memory.current").write_text("1000\n")
    (folder / "memory.peak").write_text("2000\n")
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n")
    assert (group.memory_bytes(), group.peak_bytes(), group.out_of_memory()) == (1000, 2000, True)


def test_folder_is_the_same_for_a_data_folder_and_differs_for_another(
    groups: Groups, root: Path, own: Path
) -> None:
    first = folder_of(root).name
    find_groups(Path("/elsewhere"), root, own)
    assert len({path.name for path in root.rglob("sluice-*")} - {first}) == 1


@pytest.mark.parametrize("write", [lambda path: None, lambda path: path.write_text("not a list")])
def test_no_groups_where_there_is_no_tree(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "own")
    assert find_groups(DATA_DIR, tmp_path / "absent", tmp_path / "own") is None
