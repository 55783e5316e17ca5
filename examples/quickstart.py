"""From a CSV file to a prediction: upload, preprocess, train twice, evaluate, predict.

Standard library only; every step is an HTTP call to the gateway. A second run with the same content
finds the champion that was trained on it and only predicts.
Data: examples/data/breast-cancer.csv, UCI Machine Learning Repository, CC BY 4.0.
"""

import argparse
import base64
import csv
import io
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ALGORITHMS = {
    "classification": ("logistic", "random_forest"),
    "regression": ("ridge", "random_forest"),
}
TRAINING_SECONDS = 900


class CallFailedError(Exception):
    """The gateway could not be reached, or answered with an error."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Gateway:
    """Calls of one gateway with its user and password."""

    url: str
    password: str
    user: str = "admin"

    def call(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> dict[str, Any]:
        """The JSON object that a call answers. Raises CallFailedError with the answer's words."""
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": kind}
        request = urllib.request.Request(  # noqa: S310 - main checks the scheme
            self.url + path, data=body, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=TRAINING_SECONDS) as response:  # noqa: S310
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode("utf-8", "replace").strip()
            raise CallFailedError(
                f"{method} {path} answered {error.code}: {text}", error.code
            ) from error
        except (OSError, ValueError) as error:
            raise CallFailedError(f"{method} {self.url}{path}: {error}") from error

    def step(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a function answers to a JSON object."""
        return self.call("POST", f"/function/{name}", json.dumps(body).encode())


@dataclass(frozen=True)
class Example:
    """What is learned from what."""

    data: Path
    dataset: str
    target: str
    model: str


def champion(gateway: Gateway, example: Example) -> dict[str, Any] | None:
    """The model's champion, None where it has none."""
    try:
        return gateway.call("GET", f"/registry/models/{example.model}/aliases/champion")
    except CallFailedError as error:
        if error.status == 404:
            return None
        raise


def upload(gateway: Gateway, example: Example) -> dict[str, Any]:
    """The dataset version that holds the file's content, a new one only if there is none."""
    content = example.data.read_bytes()
    return gateway.call("POST", f"/registry/datasets/{example.dataset}", content, "text/csv")


def train(gateway: Gateway, example: Example, version: int) -> None:
    """Preprocess, train each algorithm, let the best become the champion."""
    request = {"dataset": example.dataset, "version": version, "target": example.target}
    features = gateway.step("preprocess", request)
    rows = features["rows"]
    say(
        f"preprocess  {len(features['columns'])} columns, {rows['train']} rows to train on,"
        f" {rows['test']} held out, {features['task']} ({features['task_reason']})"
    )
    candidates = []
    for algorithm in ALGORITHMS[features["task"]]:
        begun = time.monotonic()
        trained = gateway.step(
            "train",
            {
                "feature_set": features["feature_set"],
                "model": example.model,
                "algorithm": algorithm,
            },
        )
        candidates.append(trained["version"])
        seconds = time.monotonic() - begun
        say(f"train       {algorithm}: {example.model}:{trained['version']} in {seconds:.1f} s")
    compared = gateway.step("evaluate", {"model": example.model, "candidates": candidates})
    for row in compared["table"]:
        metric = compared["metric"]
        say(f"evaluate    version {row['version']}: held-out {metric} {row['metrics'][metric]:.4f}")
    say(f"evaluate    champion is version {compared['champion']}: {compared['reason']}")


def first_row(example: Example) -> dict[str, Any]:
    """The first row of the file without its target, numbers as numbers, holes as null."""
    text = example.data.read_text(encoding="utf-8")
    row = next(csv.DictReader(io.StringIO(text)))
    return {name: _value(cell) for name, cell in row.items() if name != example.target}


def _value(cell: str) -> Any:
    if cell in {"true", "false"}:
        return cell == "true"
    try:
        return float(cell)
    except ValueError:
        return cell or None


def predict(gateway: Gateway, example: Example) -> None:
    """Ask for one prediction and print it with the model it came from."""
    current = champion(gateway, example)
    if current is None:
        raise CallFailedError(f"model {example.model!r} has no champion")
    wanted = {column["name"] for column in current["signature"]["columns"]}
    row = {name: value for name, value in first_row(example).items() if name in wanted}
    body = json.dumps({"instances": [row]}).encode()
    response = gateway.call("POST", f"/function/predict?model={example.model}@champion", body)
    chance = ""
    if "probabilities" in response:
        chance = f" with probability {max(response['probabilities'][0]):.4f}"
    say(f"predict     first row of {example.data.name}: {response['predictions'][0]}{chance}")
    held_out = {
        name: value for name, value in current["metrics"].items() if not name.startswith("train_")
    }
    scores = ", ".join(f"{name} {value:.4f}" for name, value in sorted(held_out.items()))
    say(
        f"model       {response['model']}@champion is version {response['version']}; "
        f"held-out {scores}"
    )


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def address(environ: Mapping[str, str]) -> str:
    """The gateway's URL by the variables that `sluice up` obeys too."""
    host = environ.get("SLUICE_HOST") or "127.0.0.1"
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1"
    return environ.get("OPENFAAS_URL") or f"http://{host}:{environ.get('SLUICE_PORT') or 8080}"


def read_arguments(arguments: list[str]) -> tuple[Gateway, Example]:
    """The gateway and the example that the command line names."""
    secrets = Path(os.environ.get("SLUICE_DATA_DIR") or ".sluice") / "secrets"
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("gateway", nargs="?", default=address(os.environ), help="its URL")
    parser.add_argument(
        "password_file",
        nargs="?",
        type=Path,
        default=secrets / "basic-auth-password",
        help="file with the password of user admin",
    )
    parser.add_argument("--data", type=Path, default=HERE / "data" / "breast-cancer.csv")
    parser.add_argument("--dataset", default="breast-cancer")
    parser.add_argument("--target", default="diagnosis")
    parser.add_argument("--model", default="breast-cancer")
    given = parser.parse_args(arguments)
    if not given.gateway.startswith(("http://", "https://")):
        parser.error(f"gateway: expected an http(s) URL, got {given.gateway!r}")
    try:
        password = given.password_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        parser.error(f"password_file: {error}")
    if not given.data.is_file():
        parser.error(f"--data: no file {given.data}")
    example = Example(given.data, given.dataset, given.target, given.model)
    return Gateway(given.gateway.rstrip("/"), password), example


def main(arguments: list[str]) -> int:
    gateway, example = read_arguments(arguments)
    try:
        dataset = upload(gateway, example)
        say(f"upload      {dataset['name']} version {dataset['version']}, {dataset['rows']} rows")
        current = champion(gateway, example)
        source = current and (current["dataset"], current["dataset_version"])
        if source == (dataset["name"], dataset["version"]):
            say("train       skipped: the champion was trained on this version")
        else:
            train(gateway, example, dataset["version"])
        predict(gateway, example)
    except CallFailedError as error:
        sys.stderr.write(f"quickstart: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
