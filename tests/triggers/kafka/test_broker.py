"""deploy/kafka/run.sh where it cannot run."""

import shutil
import subprocess
from pathlib import Path

import pytest

from testbed.platform import ROOT


@pytest.mark.parametrize("missing", ["java", "mvn"])
def test_machine_without_a_program_is_told_of_compose(tmp_path: Path, missing: str) -> None:
    for program in {"dirname", "sh", "java", "mvn"} - {missing}:
        found = shutil.which(program) or shutil.which("true")
        assert found
        (tmp_path / program).symlink_to(found)
    done = subprocess.run(
        [str(tmp_path / "sh"), str(ROOT / "deploy" / "kafka" / "run.sh")],
        env={"PATH": str(tmp_path), "KAFKA_DATA": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{missing} is missing" in done.stderr
    assert "docker compose -f deploy/kafka/compose.yml up" in done.stderr
    assert not (tmp_path / "data").exists()
