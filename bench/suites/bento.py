"""The same model as a BentoML service, where BentoML installs within a minute."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.peers import running
from bench.rows import Row, ratio_observed
from bench.slices import LoadTarget, interleave
from bench.stage import Stage
from bench.suites.calls import model_file, write_requests
from testbed.platform import free_ports

PACKAGES: Final = ("bentoml==1.4.39", "onnxruntime", "numpy")
INSTALL_SECONDS: Final = 60
ROUNDS: Final = 4
QUIET: Final = {"BENTOML_DO_NOT_TRACK": "True"}


def run(stage: Stage) -> list[Row]:
    """Rows of predict against it, or one that says why there are none."""
    stage.log("installing BentoML")
    failure = _install(stage.folder / "bentoml")
    if failure:
        return [Row("predict against BentoML: not measured", 0, "calls/s", note=failure)]
    stage.deploy_predict("predict-one")
    request = write_requests(stage.folder)["predict"]
    (port,) = free_ports(1)
    program = str(stage.folder / "bentoml" / "bin" / "bentoml")
    command = [program, "serve", "bench.bentoml_service:Predict", "--port", str(port)]
    home = {"BENTOML_HOME": str(stage.folder / "bentoml-home")}
    variables = {**QUIET, **home, "BENCH_MODEL": str(model_file(stage))}
    rows = []
    with running(command, port, variables):
        targets = {
            "gateway": LoadTarget(stage.calls("predict-one"), request),
            "bentoml": LoadTarget(f"http://127.0.0.1:{port}/predict", request),
        }
        for connections in (1, 16, 64):
            seen = interleave(targets, connections, ROUNDS)
            pairs = list(zip(seen["gateway"].rates, seen["bentoml"].rates, strict=True))
            plural = "s" if connections > 1 else ""
            name = f"predict, {connections} connection{plural}, against BentoML"
            rows.append(ratio_observed(name, pairs, "calls/s", note="batching off, one worker"))
    return rows


def _install(folder: Path) -> str:
    """Why BentoML could not be installed into a new environment, else ''."""
    uv = str(Path(sys.executable).with_name("uv"))
    python = str(folder / "bin" / "python")
    commands = (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", python, *PACKAGES],
    )
    for command in commands:
        try:
            done = subprocess.run(  # noqa: S603 - uv
                command,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
                env=dict(os.environ),
            )
        except subprocess.TimeoutExpired:
            return f"it did not install within {INSTALL_SECONDS} s"
        if done.returncode != 0:
            return f"it did not install: {done.stderr.strip().splitlines()[-1]}"
    return ""
