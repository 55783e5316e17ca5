"""A PostgreSQL server of the tests' own: from Debian's packages, on a Unix socket, gone after."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def programs() -> Path | None:
    """The folder of the newest installed server, None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """An SQLAlchemy URL of a fresh server; skips where it can not be started."""
    folder = programs()
    if folder is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("no user postgres to run the server as")
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    if user is not None:
        shutil.chown(home, user)
    try:
        yield from _run(folder, home, user)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _run(folder: Path, home: Path, user: str | None) -> Iterator[str]:
    data = home / "data"
    made = [
        str(folder / "initdb"),
        "-D",
        str(data),
        "-U",
        "sluice",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "-N",
    ]
    subprocess.run(made, user=user, cwd=home, check=True, capture_output=True)
    control = [str(folder / "pg_ctl"), "-D", str(data), "-w", "-t", "120"]
    options = f"-c listen_addresses='' -c unix_socket_directories='{home}' -c fsync=off"
    start = [*control, "-l", str(home / "log"), "-o", options, "start"]
    subprocess.run(start, user=user, cwd=home, check=True, stdout=subprocess.DEVNULL)
    try:
        yield f"postgresql+psycopg://sluice@/postgres?host={home}"
    finally:
        stop = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, user=user, cwd=home, check=True, stdout=subprocess.DEVNULL)
