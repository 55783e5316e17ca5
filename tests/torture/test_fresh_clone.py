"""What a new user does: clone into an empty folder, run the README's commands."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.platform import ROOT
from tests.readme import blocks

pytestmark = [pytest.mark.torture, pytest.mark.network, pytest.mark.timeout(1500)]
SYSTEM_PYTHON = "/usr/bin/python3"
USER = "sluice-test"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A person with an empty home and a fresh clone."""

    folder: Path
    prefix: tuple[str, ...]
    python: str

    def run(self, script: str) -> str:
        """Run `script` in the clone with empty caches; its output."""
        kept = {"PATH", "LANG", "SSL_CERT_FILE", "UV_HTTP_RETRIES"}
        environ = {
            name: value
            for name, value in os.environ.items()
            if name in kept or name.startswith("PIP_")
        }
        environ |= {"HOME": str(self.folder.parent), "PYTHON": self.python}
        done = subprocess.run(
            [*self.prefix, "bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=1200,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


def clone(folder: Path) -> Path:
    """The committed state of this repository in a new folder."""
    target = folder / "sluice"
    subprocess.run(
        ["git", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks", ROOT, target],
        check=True,
    )
    return target


@pytest.fixture(params=["same-user", "ordinary-user"])
def newcomer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Newcomer]:
    if request.param == "same-user":
        yield Newcomer(clone(tmp_path), (), os.environ.get("PYTHON", "python3"))
        return
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; the other case is an ordinary user")
    home = Path("/tmp") / f"{USER}-{os.getpid()}"  # noqa: S108 (others may not enter tmp_path)
    home.mkdir(mode=0o700)
    clone(home)
    identity = ordinary_user()
    for path in [home, *home.rglob("*")]:
        os.chown(path, identity, identity, follow_symlinks=False)
    try:
        prefix = ("setpriv", f"--reuid={identity}", f"--regid={identity}", "--clear-groups", "--")
        yield Newcomer(home / "sluice", prefix, SYSTEM_PYTHON)
    finally:
        shutil.rmtree(home)


def ordinary_user() -> int:
    """Id of a user without rights, made on first use."""
    try:
        return pwd.getpwnam(USER).pw_uid
    except KeyError:
        subprocess.run(["useradd", "--user-group", "--no-create-home", USER], check=True)
        return pwd.getpwnam(USER).pw_uid


def test_readme_commands_work_in_order_on_a_fresh_clone(newcomer: Newcomer) -> None:
    outputs = []
    try:
        for block in blocks():
            if not block.skip:
                outputs.append(newcomer.run(block.text))
                assert "Traceback" not in outputs[-1]
            if len(outputs) == 1:
                again(newcomer)
    finally:
        newcomer.run("make down")
    assert "breast-cancer@" in outputs[0]
    assert "make down" in outputs[0]
    assert '"predictions"' in outputs[1]
    assert leftovers(newcomer) == []


def again(newcomer: Newcomer) -> None:
    """A second `make up` finds everything in place: nothing is installed, built or trained."""
    made = "stat -c %y .venv/.embedded; ls .sluice/bundles .sluice/environments"
    before = newcomer.run(made)
    assert "train       skipped" in newcomer.run("make up")
    assert newcomer.run(made) == before


def leftovers(newcomer: Newcomer) -> list[str]:
    """Processes and mounts that belong to the clone."""
    found = [
        line for line in Path("/proc/mounts").read_text().splitlines() if "sluice-test" in line
    ]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(newcomer.folder).encode() in text and int(entry.name) != os.getpid():
                found.append(f"{entry.name} {text[:100]!r}")
    return found
