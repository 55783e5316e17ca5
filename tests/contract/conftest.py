"""The unmodified faas-cli against a running gateway."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.platform import ROOT, LivePlatform, live_platform


@dataclass(frozen=True, slots=True)
class Cli:
    """faas-cli with a home of its own, in a project folder."""

    platform: LivePlatform
    folder: Path
    program: Path

    def run(
        self, *arguments: str, text: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "OPENFAAS_URL": self.platform.url,
            "OPENFAAS_CONFIG": str(self.folder / ".openfaas"),
        }
        done = subprocess.run(
            [str(self.program), *arguments],
            cwd=self.folder,
            env=environ,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def out(self, *arguments: str, text: str | None = None) -> str:
        """Both outputs of a command that must succeed."""
        done = self.run(*arguments, text=text)
        return done.stdout + done.stderr


def _program(name: str) -> Path:
    program = ROOT / ".bin" / name
    if not program.exists():
        pytest.skip(f".bin/{name} is missing: Go is needed to build it (`make faas-cli`)")
    return program


@pytest.fixture(scope="session")
def faas_cli() -> Path:
    return _program("faas-cli")


@pytest.fixture(scope="session")
def remotebuild() -> Path:
    return _program("remotebuild")


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    with live_platform(tmp_path_factory.mktemp("contract") / ".sluice") as running:
        yield running


@pytest.fixture
def cli(platform: LivePlatform, faas_cli: Path, tmp_path: Path) -> Cli:
    """A logged-in faas-cli in a project with one function, `greet`."""
    project = Path(__file__).parent / "project"
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    shutil.copytree(ROOT / "template", tmp_path / "template")
    tool = Cli(platform, tmp_path, faas_cli)
    password = platform.password_file.read_text()
    tool.run("login", "--username", "admin", "--password-stdin", text=password)
    return tool
