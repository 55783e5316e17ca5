import asyncio
import base64
import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.functions.contexts import context_of, load_function
from tests.functions.data import BREAST_CANCER, diabetes, mixed_wine
from tests.functions.gateway import TOKEN, Event, Gateway

NUMBERS = count()
NAMES = ("preprocess", "train", "evaluate", "predict", "batch", "echo")


@dataclass
class RuntimeConfig:
    """A gateway with a registry, the functions that train, and the variables they ran with."""

    gateway: Gateway
    contexts: Path
    environ: dict[str, str]
    preprocess: ModuleType
    train: ModuleType
    evaluate: ModuleType
    feature_sets: dict[str, str] = field(default_factory=dict)

    def call(self, function: ModuleType, body: object, **event: Any) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a call of a sync function."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        reply = function.handle(Event(content, **event), None)
        return reply["statusCode"], json.loads(reply["body"])

    def ok(self, function: ModuleType, body: object, **event: Any) -> dict[str, Any]:
        """The JSON of a call that succeeds."""
        status, document = self.call(function, body, **event)
        assert status == 200, document
        return document

    def registry(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> tuple[int, Any]:
        """Status and JSON of a call of the registry as its admin."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        login = base64.b64encode(b"admin:of-the-tests").decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": kind}
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=30)
        try:
            connection.request(method, "/registry" + path, content, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def upload(self, dataset: str, content: bytes) -> dict[str, Any]:
        status, document = self.registry("POST", f"/datasets/{dataset}", content, "text/csv")
        assert status in {200, 201}, document
        version: dict[str, Any] = document
        return version

    def trained(self, feature_set: str, model: str, algorithm: str, **more: Any) -> dict[str, Any]:
        body = {"feature_set": feature_set, "model": model, "algorithm": algorithm, **more}
        return self.ok(self.train, body)

    def move(self, model: str, version: int, alias: str = "champion") -> None:
        status, document = self.registry(
            "PUT", f"/models/{model}/aliases/{alias}", {"version": version}
        )
        assert status == 200, document


@pytest.fixture(scope="session")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contexts")
    for name in NAMES:
        context_of(name, folder)
    return folder


@pytest.fixture(scope="session")
def runtime_config(
    contexts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RuntimeConfig]:
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "registry-token").write_text(TOKEN + "\n", encoding="utf-8")
    gateway = Gateway(tmp_path_factory.mktemp("data"))
    gateway.start()
    environ = {"SLUICE_GATEWAY_URL": gateway.url, "SLUICE_SECRETS_DIR": str(secrets)}
    functions = {
        name: load_function(contexts / name, environ, f"function_{name}")
        for name in ("preprocess", "train", "evaluate")
    }
    gateway.functions.update(functions)
    yield RuntimeConfig(
        gateway,
        contexts,
        environ,
        functions["preprocess"],
        functions["train"],
        functions["evaluate"],
    )
    for function in functions.values():
        function.REGISTRY.close()
    gateway.stop()


def made(runtime_config: RuntimeConfig, name: str, content: bytes, target: str) -> dict[str, Any]:
    """The feature set of a dataset uploaded under a name."""
    runtime_config.upload(name, content)
    document = runtime_config.ok(runtime_config.preprocess, {"dataset": name, "target": target})
    runtime_config.feature_sets[name] = document["feature_set"]
    return document


@pytest.fixture(scope="session")
def cancer(runtime_config: RuntimeConfig) -> dict[str, Any]:
    """Two classes, all columns numbers."""
    return made(runtime_config, "cancer", BREAST_CANCER.read_bytes(), "diagnosis")


@pytest.fixture(scope="session")
def wine(runtime_config: RuntimeConfig) -> dict[str, Any]:
    """Three classes; numbers, texts, a boolean, missing values."""
    return made(runtime_config, "wine", mixed_wine(), "cultivar")


@pytest.fixture(scope="session")
def progression(runtime_config: RuntimeConfig) -> dict[str, Any]:
    """A regression."""
    return made(runtime_config, "diabetes", diabetes(), "progression")


@dataclass
class Predictor:
    """A predict function that runs in process, with a loop of its own."""

    module: ModuleType
    runner: asyncio.Runner

    def call(self, body: object, query: str = "", method: str = "POST") -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        event = Event(content, method, query)
        reply = self.runner.run(self.module.handle(event, None))
        return reply["statusCode"], json.loads(reply["body"])

    def ok(self, body: object, query: str = "") -> dict[str, Any]:
        status, document = self.call(body, query)
        assert status == 200, document
        found: dict[str, Any] = document
        return found

    def close(self) -> None:
        self.module.MODELS.close()
        self.module.SOURCE.close()
        self.runner.close()


Predictors = Callable[..., Predictor]


@pytest.fixture
def predictors(runtime_config: RuntimeConfig, tmp_path: Path) -> Iterator[Predictors]:
    """Starts predict functions with variables of their own; they share tmp_path/cache."""
    started: list[Predictor] = []

    def start(**variables: str) -> Predictor:
        environ = {
            **runtime_config.environ,
            "SLUICE_CACHE_DIR": str(tmp_path / "cache"),
            **variables,
        }
        name = f"function_predict_{next(NUMBERS)}"
        module = load_function(runtime_config.contexts / "predict", environ, name)
        predictor = Predictor(module, asyncio.Runner())
        started.append(predictor)
        return predictor

    yield start
    for predictor in started:
        predictor.close()
