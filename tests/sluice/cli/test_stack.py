from pathlib import Path

import pytest

from sluice.cli.errors import CommandError
from sluice.cli.stack import find_stack, load_stack

STACK = """
version: 1.0
provider: {name: openfaas, gateway: http://127.0.0.1:8080}
functions:
  predict:
    lang: python3-ml
    handler: ./functions/predict
    image: ${PREFIX:-sluice}/predict
    environment: {batch: 12, debug: true}
    environment_file: [more.yml]
    labels: {com.openfaas.scale.min: 1}
    secrets: [registry-token]
    limits: {memory: 256Mi}
  cat: {image: cat:1, fprocess: cat, skip_build: true}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "stack.yml"
    path.write_text(text)
    (folder / "more.yml").write_text("environment: {batch: '13', level: info}\n")
    return path


def test_stack_file_is_read_by_openfaas_rules(tmp_path: Path) -> None:
    stack = load_stack(write(tmp_path, STACK), {})
    predict, cat = stack.functions
    assert predict.image == "sluice/predict:latest"
    assert predict.environment == {"batch": "13", "debug": "true", "level": "info"}
    assert predict.labels == {"com.openfaas.scale.min": "1"}
    assert predict.is_built
    assert not cat.is_built
    assert cat.image == "cat:1"


def test_deployment_leaves_out_what_is_not_set(tmp_path: Path) -> None:
    predict = load_stack(write(tmp_path, STACK), {}).functions[0]
    body = predict.deployment()
    assert body["service"] == "predict"
    assert body["limits"] == {"memory": "256Mi"}
    assert "requests" not in body
    assert "namespace" not in body


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("provider: {name: other}", "provider.name: expected openfaas, got 'other'"),
        ("provider: {name: openfaas}\nfunctions: [a]", "functions: expected a map, got list"),
        ("provider: {name: openfaas}\nfunctions: {a: {lang: x}}", "functions.a.image: missing"),
        (
            "provider: {name: openfaas}\nfunctions: {a: {image: x, build_args: [A=1]}}",
            "functions.a.build_args: expected a map, got list",
        ),
        ("a: [", "stack.yml: "),
    ],
)
def test_bad_stack_file_is_named_with_function_and_key(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint.replace("'", ".")):
        load_stack(write(tmp_path, text), {})


def test_unknown_function_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    stack = load_stack(write(tmp_path, STACK), {})
    with pytest.raises(CommandError, match="no function 'x'; there are: cat, predict"):
        stack.select(["x"])


def test_missing_stack_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no stack file: looked for"):
        find_stack(tmp_path / "none.yml")
