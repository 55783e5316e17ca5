"""A whole platform for tests: real processes, free ports, a data folder of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from testbed import log_tails
from testbed.ports import free_ports

__all__ = ["ROOT", "LivePlatform", "describe_platform", "free_ports", "live_platform", "start"]
ROOT: Final = Path(__file__).parents[1]
# Wheels are fetched once for all platforms that tests start.
CACHE: Final = ROOT / ".pytest_cache" / "uv"
PATIENCE: Final = 120.0


@dataclass(frozen=True, slots=True)
class LivePlatform:
    """A running platform. environ: what commands that talk to it need."""

    data_dir: Path
    url: str
    metrics_url: str
    environ: Mapping[str, str]

    @property
    def password_file(self) -> Path:
        return self.data_dir / "secrets" / "basic-auth-password"

    @property
    def payload_secret_file(self) -> Path:
        return self.data_dir / "secrets" / "payload-secret"

    def client(self) -> httpx.Client:
        """An HTTP client with the gateway's credentials."""
        password = self.password_file.read_text().strip()
        return httpx.Client(base_url=self.url, auth=("admin", password), timeout=60)

    def sluice(
        self, *arguments: str, cwd: Path = ROOT, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the `sluice` command against this platform."""
        return subprocess.run(
            [sys.executable, "-m", "sluice", *arguments],
            cwd=cwd,
            env=dict(self.environ),
            input=text,
            capture_output=True,
            text=True,
            check=check,
            timeout=600,
        )

    def pids(self) -> list[int]:
        """Processes whose environment names this data folder."""
        marker = f"SLUICE_DATA_DIR={self.data_dir}".encode()
        return [pid for pid in _all_pids() if marker in _read(pid, "environ").split(b"\0")]

    def program(self, module: str) -> int:
        """The process that runs `python -m MODULE`, once there is one: it may be restarting."""
        deadline = time.monotonic() + PATIENCE
        while len(found := self.running(module)) != 1:
            assert time.monotonic() < deadline, (module, found)
            time.sleep(0.02)
        return found[0]

    def running(self, module: str) -> list[int]:
        """Processes that run `python -m MODULE` now.

        A child that has not yet become another program looks the same; its parent is the one.
        """
        words = [b"-m", module.encode()]
        alike = [pid for pid in self.pids() if _read(pid, "cmdline").split(b"\0")[1:3] == words]
        return [pid for pid in alike if _parent(pid) not in alike]


@contextmanager
def live_platform(data_dir: Path, **settings: str) -> Iterator[LivePlatform]:
    """Start a platform on `data_dir` and stop it at the end."""
    platform = describe_platform(data_dir, **settings)
    log_tails.follow(data_dir / "logs")
    try:
        start(platform)
        yield platform
    finally:
        platform.sluice("down", check=False)
        log_tails.leave(data_dir / "logs")


def describe_platform(data_dir: Path, **settings: str) -> LivePlatform:
    """The platform that would run on `data_dir` with free ports."""
    port, metrics_port = free_ports(2)
    environ = {
        **os.environ,
        "SLUICE_DATA_DIR": str(data_dir),
        "SLUICE_PORT": str(port),
        "SLUICE_METRICS_PORT": str(metrics_port),
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(CACHE)),
        **settings,
    }
    environ.pop("OPENFAAS_URL", None)
    return LivePlatform(
        data_dir, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}", environ
    )


def start(platform: LivePlatform) -> None:
    """Start `platform` detached and wait until it is ready; its own words when it is not."""
    code = "import os; from sluice.cli.platform import start; start(os.environ)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(platform.environ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    """A file of /proc; empty once the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    """Id of the process that started `pid`; 0 once that is gone."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0
