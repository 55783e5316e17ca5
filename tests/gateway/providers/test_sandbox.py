import os
import sys
from pathlib import Path

import pytest

from gateway.providers.embedded.bundles import Bundle
from gateway.providers.embedded.sandbox import Machine, OwnFolders, hidden_folders, threads
from testbed.embedded import asked, settings_of


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder that holds a project, its data folder and an interpreter."""
    home = tmp_path / "home"
    for folder in ("project/.sluice/run/sockets", "project/.sluice/secrets", "python/bin"):
        (home / folder).mkdir(parents=True)
    (home / "python" / "bin" / "python").touch()
    return home


def bundle_in(data_dir: Path, home: Path) -> Bundle:
    environment = data_dir / "environments" / "lock"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(home / "python" / "bin" / "python")
    folder = data_dir / "bundles" / "digest"
    folder.mkdir(parents=True)
    return Bundle("one", "digest", folder, environment / "bin" / "python", (), "lock", "handle")


def machine_of(data_dir: Path, home: Path) -> Machine:
    settings = settings_of(data_dir)
    hidden = hidden_folders(settings, data_dir / "run" / "sockets", str(home))
    return Machine(settings, {"PATH": "/usr/bin:/bin"}, data_dir / "runtime" / "hash", home, hidden)


def own_folders(folder: Path) -> OwnFolders:
    return OwnFolders(folder / "own", folder / "secrets", folder / "cache")


def test_home_and_data_folder_are_hidden_and_what_runs_is_shown(home: Path, tmp_path: Path) -> None:
    data_dir = home / "project" / ".sluice"
    machine, bundle = machine_of(data_dir, home), bundle_in(data_dir, home)
    sandbox = machine.sandbox(asked("one"), bundle, own_folders(tmp_path))
    assert {str(home), str(data_dir), "/run"} <= set(sandbox.hide)
    shown = set(sandbox.show)
    assert {str(bundle.folder), str(bundle.python.parent.parent), str(home / "python")} <= shown
    assert str(machine.runtime) in shown
    assert not any(Path(path) in Path(data_dir, "secrets").parents for path in shown)


def test_link_in_the_home_leads_to_the_bundle_by_both_names(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "run" / "sockets").mkdir(parents=True)
    (home / "linked").symlink_to(elsewhere)
    machine = machine_of(home / "linked", home)
    bundle = bundle_in(home / "linked", home)
    sandbox = machine.sandbox(asked("one"), bundle, own_folders(tmp_path))
    assert str(elsewhere) in sandbox.hide
    assert {str(bundle.folder), os.path.realpath(bundle.folder)} <= set(sandbox.show)


@pytest.mark.parametrize("home", ["/", "/tmp", "/usr/sbin", "/var", sys.prefix, "", "/nonexistent"])  # noqa: S108 - not written to
def test_home_that_is_the_system_s_is_not_hidden(tmp_path: Path, home: str) -> None:
    hidden = hidden_folders(settings_of(tmp_path), tmp_path, home)
    assert home not in hidden
    assert os.path.realpath(tmp_path) in hidden


def test_threads_are_as_asked_else_by_the_limit_else_by_the_machine() -> None:
    cores = len(os.sched_getaffinity(0))
    assert threads({"OMP_NUM_THREADS": "7"}, 1.0) == 7
    assert threads({}, 0.25) == 1
    assert threads({}, None) == cores
    assert threads({"OMP_NUM_THREADS": "many"}, 1000.0) == cores


def test_zygote_is_shared_unless_an_import_time_variable_differs(
    home: Path, tmp_path: Path
) -> None:
    machine, bundle = machine_of(tmp_path, home), bundle_in(tmp_path, home)

    def key(**variables: str) -> str:
        return machine.environment(asked("one", env_vars=variables), bundle).key

    assert key(ANYTHING="1") == key()
    for name in ("TZ", "OMP_NUM_THREADS", "LD_PRELOAD", "PYTHONHASHSEED", "ORT_LOG"):
        assert key(**{name: "2"}) != key()
