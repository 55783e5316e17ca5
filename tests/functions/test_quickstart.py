import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.platform import free_ports
from tests.functions.conftest import Predictors, RuntimeConfig
from tests.functions.contexts import ROOT
from tests.functions.data import diabetes, mixed_wine


def quickstart(
    runtime_config: RuntimeConfig, password: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    """One run of the program, isolated from what is installed beside it."""
    program = str(ROOT / "examples" / "quickstart.py")
    return subprocess.run(
        [sys.executable, "-I", program, runtime_config.gateway.url, str(password), *more],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def password(runtime_config: RuntimeConfig, predictors: Predictors, tmp_path: Path) -> Path:
    """The gateway's password file; predict is there to be called."""
    runtime_config.gateway.functions["predict"] = predictors().module
    file = tmp_path / "password"
    file.write_text("of-the-tests\n", encoding="utf-8")
    return file


def test_the_first_run_trains_and_the_second_only_predicts(
    runtime_config: RuntimeConfig, password: Path
) -> None:
    model = ("--model", "quick")
    first = quickstart(runtime_config, password, *model, "--dataset", "quick")
    assert first.returncode == 0, first.stderr
    assert "predict     first row of breast-cancer.csv: malignant with probability" in first.stdout
    assert "model       quick@champion is version 1; held-out accuracy 0.9" in first.stdout
    from_here = len(runtime_config.gateway.requests)
    second = quickstart(runtime_config, password, *model, "--dataset", "quick")
    assert second.returncode == 0, second.stderr
    assert "train       skipped: the champion was trained on this version" in second.stdout
    assert second.stdout.splitlines()[-2:] == first.stdout.splitlines()[-2:]
    called = [path for _, path in runtime_config.gateway.requests[from_here:]]
    assert "/function/train" not in called


@pytest.mark.parametrize(
    ("name", "content", "target"),
    [("quick-wine", mixed_wine(), "cultivar"), ("quick-diabetes", diabetes(), "progression")],
)
def test_mixed_columns_and_a_regression_go_the_same_way(
    runtime_config: RuntimeConfig,
    password: Path,
    tmp_path: Path,
    name: str,
    content: bytes,
    target: str,
) -> None:
    file = tmp_path / f"{name}.csv"
    file.write_bytes(content)
    options = ("--data", str(file), "--dataset", name, "--model", name, "--target", target)
    done = quickstart(runtime_config, password, *options)
    assert done.returncode == 0, done.stderr
    assert f"predict     first row of {name}.csv: " in done.stdout
    assert f"model       {name}@champion is version" in done.stdout


def test_a_fault_is_one_line_and_a_status(
    runtime_config: RuntimeConfig, password: Path, tmp_path: Path
) -> None:
    done = quickstart(runtime_config, password, "--target", "colour", "--model", "quick-fault")
    assert done.returncode == 1
    assert done.stderr.startswith("quickstart: POST /function/preprocess answered 400:")
    assert "no column 'colour'" in done.stderr
    absent = quickstart(runtime_config, tmp_path / "no-password")
    assert absent.returncode == 2
    assert "password_file" in absent.stderr


def test_address_and_password_come_from_the_variables_that_the_platform_was_started_with(
    tmp_path: Path,
) -> None:
    """`make up` with another port or data folder ends with the quickstart."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "basic-auth-password").write_text("of-the-tests\n", encoding="utf-8")
    (port,) = free_ports(1)
    done = subprocess.run(
        [sys.executable, "-I", str(ROOT / "examples" / "quickstart.py")],
        env={"SLUICE_PORT": str(port), "SLUICE_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert f"POST http://127.0.0.1:{port}/registry/datasets/breast-cancer" in done.stderr
