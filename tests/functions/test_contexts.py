"""Contexts as faas-cli makes them, served by the real runtime."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.functions.conftest import NAMES, RuntimeConfig
from tests.functions.contexts import ROOT, assemble, stack
from tests.functions.data import BREAST_CANCER

Serve = Callable[..., "Served"]


class Served:
    """A runtime that serves a context on a Unix socket, in a process of its own."""

    def __init__(self, context: Path, socket_path: Path, environ: dict[str, str]) -> None:
        reading, writing = os.pipe()
        self._socket = str(socket_path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sluice.runtime"],
            cwd=context,
            env={
                "PATH": os.environ["PATH"],
                "SLUICE_SOCKET": self._socket,
                "SLUICE_BUNDLE": str(context),
                "SLUICE_STATUS_FD": str(writing),
                "OPENBLAS_NUM_THREADS": "1",
                **environ,
            },
            pass_fds=[writing],
        )
        os.close(writing)
        with os.fdopen(reading, "rb") as status:
            self.status = json.loads(status.readline() or b"{}")

    def call(
        self, body: bytes = b"", path: str = "/", method: str = "POST", kind: str = "text/plain"
    ) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        connection = http.client.HTTPConnection("function")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(self._socket)
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            response = connection.getresponse()
            return response.status, response.headers.get("Content-Type", ""), response.read()
        finally:
            connection.close()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    served: list[Served] = []

    def start(context: Path, **environ: str) -> Served:
        served.append(Served(context, tmp_path / f"{len(served)}.sock", environ))
        assert served[-1].status == {"event": "ready"}
        return served[-1]

    yield start
    codes = [one.stop() for one in served]
    assert codes == [0] * len(served)


def test_the_stack_names_every_function_with_what_it_needs() -> None:
    text = (ROOT / "stack.yml").read_text(encoding="utf-8")
    whole = yaml.safe_load(text)
    assert whole["provider"] == {"name": "openfaas", "gateway": "http://127.0.0.1:8080"}
    functions = stack()
    assert sorted(functions) == sorted(NAMES)
    for name, function in functions.items():
        assert function["image"] == f"sluice/{name}:latest"
        assert (ROOT / str(function["handler"]) / "handler.py").is_file()
        assert (ROOT / "template" / str(function["lang"]) / "template.yml").is_file()
        assert (ROOT / str(function["handler"]) / "requirements.txt").is_file()
        # Every value is text as faas-cli sends it.
        for values in (function["labels"], function.get("environment", {})):
            assert all(isinstance(value, str) for value in dict(values).values())  # type: ignore[call-overload]  # YAML
        assert function.get("secrets") == (None if name == "echo" else ["registry-token"])


def test_echo_answers_what_it_got_and_keeps_its_type(contexts: Path, serve: Serve) -> None:
    echo = serve(contexts / "echo")
    body = bytes(range(256)) * 100
    assert echo.call(body, kind="image/png") == (200, "image/png", body)
    assert echo.call(b"") == (200, "text/plain", b"")


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", ""])
def test_predict_reads_json_whatever_the_content_type_says(
    runtime_config: RuntimeConfig, cancer: dict[str, Any], serve: Serve, tmp_path: Path, kind: str
) -> None:
    if runtime_config.registry("GET", "/models/served")[0] == 404:
        runtime_config.trained(cancer["feature_set"], "served", "logistic")
        runtime_config.move("served", 1)
    cache = str(tmp_path / "cache")
    environ = {**runtime_config.environ, "SLUICE_CACHE_DIR": cache, "default_model": "served"}
    predict = serve(runtime_config.contexts / "predict", **environ)
    line = BREAST_CANCER.read_text(encoding="utf-8").splitlines()[1]
    row = [float(cell) for cell in line.split(",")[:-1]]
    status, respond, body = predict.call(json.dumps({"instances": [row]}).encode(), kind=kind)
    document = json.loads(body)
    assert (status, respond) == (200, "application/json")
    assert document["predictions"] == ["malignant"]
    assert (document["model"], document["version"]) == ("served", "1")
    status, _, body = predict.call(b"{}", "/?model=nobody@nowhere")
    assert status == 404
    assert (tmp_path / "cache" / "references").is_dir()


def test_calls_of_many_clients_get_each_its_own_answer(
    runtime_config: RuntimeConfig, progression: dict[str, Any], serve: Serve, tmp_path: Path
) -> None:
    if runtime_config.registry("GET", "/models/many")[0] == 404:
        runtime_config.trained(progression["feature_set"], "many", "ridge")
    environ = {**runtime_config.environ, "SLUICE_CACHE_DIR": str(tmp_path / "cache")}
    predict = serve(runtime_config.contexts / "predict", **environ)
    columns = [column["name"] for column in progression["columns"]]

    def ask(number: int, found: dict[int, float]) -> None:
        row = dict.fromkeys(columns, 1.0) | {"bmi": float(number)}
        body = json.dumps({"instances": [row]}).encode()
        status, _, document = predict.call(body, "/?model=many:1")
        if status == 200:
            found[number] = json.loads(document)["predictions"][0]

    together: dict[int, float] = {}
    threads = [threading.Thread(target=ask, args=(n, together)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone: dict[int, float] = {}
    for number in range(24):
        ask(number, alone)
    # Rows that are run together are rounded otherwise in the last bits of 32.
    assert together == pytest.approx(alone, rel=1e-6)
    assert len(set(alone.values())) == 24


def test_the_samples_of_both_templates_are_served(serve: Serve, tmp_path: Path) -> None:
    for template in ("python3-ml", "python3-asgi"):
        assemble(template, ROOT / "template" / template / "function", tmp_path / template)
    ml = serve(tmp_path / "python3-ml")
    status, _, body = ml.call(b'{"values": [1, 2, 3]}')
    assert (status, json.loads(body)["mean"]) == (200, 2.0)
    status, _, body = ml.call(b'{"values": [1, "a"]}')
    assert (status, json.loads(body)["error"]) == (400, "field 'values': expected numbers")
    asgi = serve(tmp_path / "python3-asgi")
    status, kind, body = asgi.call(b"", "/", "GET")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {"message": "hello from ASGI", "method": "GET"}
    assert asgi.call(b"", "/none", "GET")[0] == 404
