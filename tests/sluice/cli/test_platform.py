"""Starting and stopping a platform where the data folder or the moment is a bad one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.cli.errors import CommandError
from sluice.cli.platform import end, start
from testbed.platform import ROOT, describe_platform, live_platform


def test_folder_that_is_no_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    words = re.escape(f"data folder {taken}: Not a directory")
    with pytest.raises(CommandError, match=words):
        start({"SLUICE_DATA_DIR": str(taken)})
    with pytest.raises(CommandError, match=words):
        end(taken, 1)


def test_folder_too_long_for_the_address_of_a_socket_serves_all_the_same(tmp_path: Path) -> None:
    with (
        live_platform(tmp_path / ("d" * 120) / ("e" * 120)) as platform,
        platform.client() as client,
    ):
        assert client.get("/registry/datasets").status_code == 200
        assert client.get("/triggers/pipelines").status_code == 200


def test_starts_at_once_share_one_platform_and_all_return_when_it_is_ready(tmp_path: Path) -> None:
    platform = describe_platform(tmp_path / "d")
    code = "import os; from sluice.cli.platform import start; print(start(os.environ))"
    command, environ = [sys.executable, "-c", code], dict(platform.environ)
    try:
        starts = [
            subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        said = [each.communicate(timeout=100)[0].strip() for each in starts]
        assert sorted(said) == ["False", "False", "True"]
        with platform.client() as client:
            assert client.get("/registry/datasets").status_code == 200
    finally:
        end(platform.data_dir, 60)
