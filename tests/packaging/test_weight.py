"""What an installation weighs and may not pull in."""

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.platform import ROOT

pytestmark = pytest.mark.network
NOT_FOR_A_GATEWAY = {"uv", "sqlalchemy", "kubernetes", "numpy", "onnxruntime", "duckdb"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder into which the gateway's locked dependencies are installed, and nothing else."""
    target = tmp_path_factory.mktemp("gateway")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
    lock = str(ROOT / "locks" / "gateway.txt")
    subprocess.run([*pip, "--target", str(target), "-r", lock], check=True, timeout=300)
    return target


def test_gateway_alone_installs_less_than_60_megabytes(packages: Path) -> None:
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    assert size < 60 * 10**6


def test_gateway_alone_has_no_builder_database_cluster_or_ml_library(packages: Path) -> None:
    names = {path.name.partition("-")[0].lower() for path in packages.glob("*.dist-info")}
    assert names & NOT_FOR_A_GATEWAY == set()


@pytest.mark.parametrize("extra", ["gateway", "embedded", "dev"])
def test_locks_name_packages_and_hashes_but_no_address(extra: str) -> None:
    text = (ROOT / "locks" / f"{extra}.txt").read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text
