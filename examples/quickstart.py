"""From a CSV file to a prediction: upload, preprocess, train twice, evaluate, predict.

Every step is a call of the gateway by `sluice.Client`, which needs the standard library only. A
second run with the same content finds the champion that was trained on it and only predicts.
Data: examples/data/breast-cancer.csv, UCI Machine Learning Repository, CC BY 4.0.
"""

import argparse
import csv
import io
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice import Client, ClientError
from sluice.client import DatasetVersion, ModelVersion, NotFoundError
from sluice.settings import SettingError

HERE = Path(__file__).parent
ALGORITHMS = {
    "classification": ("logistic", "random_forest"),
    "regression": ("ridge", "random_forest"),
}
TRAINING_SECONDS = 900


@dataclass(frozen=True)
class Example:
    """What is learned from what."""

    data: Path
    dataset: str
    target: str
    model: str


def champion(client: Client, example: Example) -> ModelVersion | None:
    """The model's champion, None where it has none."""
    try:
        return client.models.alias(example.model, "champion")
    except NotFoundError:
        return None


def step(client: Client, function: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """What a function makes of a JSON object."""
    return dict(client.invoke(function, document).json())


def train(client: Client, example: Example, dataset: DatasetVersion) -> None:
    """Preprocess, train each algorithm, let the best become the champion."""
    request = {"dataset": dataset.name, "version": dataset.version, "target": example.target}
    features = step(client, "preprocess", request)
    rows = features["rows"]
    say(
        f"preprocess  {len(features['columns'])} columns, {rows['train']} rows to train on,"
        f" {rows['test']} held out, {features['task']} ({features['task_reason']})"
    )
    candidates = []
    for algorithm in ALGORITHMS[features["task"]]:
        begun = time.monotonic()
        request = {"feature_set": features["feature_set"], "model": example.model}
        trained = step(client, "train", {**request, "algorithm": algorithm})
        candidates.append(trained["version"])
        seconds = time.monotonic() - begun
        say(f"train       {algorithm}: {example.model}:{trained['version']} in {seconds:.1f} s")
    compared = step(client, "evaluate", {"model": example.model, "candidates": candidates})
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


def predict(client: Client, example: Example) -> None:
    """Ask for one prediction and print it with the model it came from."""
    current = champion(client, example)
    if current is None:
        raise ClientError(f"model {example.model!r} has no champion")
    wanted = {column["name"] for column in current.signature["columns"]}
    row = {name: value for name, value in first_row(example).items() if name in wanted}
    query = {"model": f"{example.model}@champion"}
    response = client.invoke("predict", {"instances": [row]}, query=query).json()
    chance = ""
    if "probabilities" in response:
        chance = f" with probability {max(response['probabilities'][0]):.4f}"
    say(f"predict     first row of {example.data.name}: {response['predictions'][0]}{chance}")
    held_out = {
        name: value for name, value in current.metrics.items() if not name.startswith("train_")
    }
    scores = ", ".join(f"{name} {value:.4f}" for name, value in sorted(held_out.items()))
    say(
        f"model       {response['model']}@champion is version {response['version']}; "
        f"held-out {scores}"
    )


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def read_arguments(arguments: list[str]) -> tuple[Client, Example]:
    """The gateway and the example that the command line names."""
    secrets = Path(os.environ.get("SLUICE_DATA_DIR") or ".sluice") / "secrets"
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("gateway", nargs="?", default="", help="its URL")
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
    if not given.password_file.is_file():
        parser.error(f"password_file: no file {given.password_file}")
    if not given.data.is_file():
        parser.error(f"--data: no file {given.data}")
    try:
        client = Client(
            given.gateway,
            username="admin",
            password_file=given.password_file,
            timeout=TRAINING_SECONDS,
        )
    except (SettingError, ClientError, ValueError) as error:
        parser.error(str(error))
    return client, Example(given.data, given.dataset, given.target, given.model)


def main(arguments: list[str]) -> int:
    client, example = read_arguments(arguments)
    try:
        dataset = client.datasets.upload(example.dataset, example.data)
        say(f"upload      {dataset.name} version {dataset.version}, {dataset.rows} rows")
        current = champion(client, example)
        source = current and (current.dataset, current.dataset_version)
        if source == (dataset.name, dataset.version):
            say("train       skipped: the champion was trained on this version")
        else:
            train(client, example, dataset)
        predict(client, example)
    except ClientError as error:
        sys.stderr.write(f"quickstart: {error}\n")
        return 1
    finally:
        client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
