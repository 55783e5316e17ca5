import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.building.context import lay_out, read_config, read_context
from gateway.types.errors import InvalidRequestError

HANDLER = {"function/handler.py": "def handle(req): pass\n"}


def context(tmp_path: Path, files: Mapping[str, str]) -> Path:
    root = tmp_path / "context"
    root.mkdir(parents=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def laid_out(tmp_path: Path, files: Mapping[str, str]) -> Path:
    root = context(tmp_path, files)
    staged = tmp_path / "staged"
    staged.mkdir()
    lay_out(root, read_context(root), staged)
    return staged


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_config_is_read() -> None:
    config = read_config(
        b'{"image": " reg.example:5000/a/fn:0.1 ", "buildArgs": {"A": "b"},'
        b' "platforms": ["linux/amd64"], "later": 1}'
    )
    assert config.image == "reg.example:5000/a/fn:0.1"
    assert (config.arguments, config.platforms) == ({"A": "b"}, ("linux/amd64",))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "'image' is required"),
        ({"image": 1}, "'image' is required"),
        ({"image": "  "}, "'image' is required"),
        ({"image": "Fn"}, "lower-case"),
        ({"image": "../fn"}, "lower-case"),
        ({"image": "fn:a b"}, "lower-case"),
        ({"image": "fn@sha256:" + "0" * 64}, "without a digest"),
        ({"image": "fn", "buildArgs": ["A=b"]}, "'buildArgs'"),
        ({"image": "fn", "buildArgs": {"A": 1}}, "'buildArgs'"),
        ({"image": "fn", "platforms": "linux"}, "'platforms'"),
        ([], "JSON object"),
    ],
)
def test_config_that_does_not_fit_is_refused(document: Any, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        read_config(json.dumps(document).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 50_000])
def test_config_that_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="not JSON"):
        read_config(content)


def test_bundle_holds_what_runs(tmp_path: Path) -> None:
    files = {
        **HANDLER,
        "function/data/model.bin": "m",
        "function/__pycache__/handler.cpython-311.pyc": "stale",
        "function/old.pyc": "stale",
        "function/.git/HEAD": "main",
        ".mypy_cache/3.11/cache.db": "debris",
        "extra/.pytest_cache/x": "debris",
        "extra/__init__.py": "",
        "index.py": "",
        "Dockerfile": "FROM scratch",
        "template.yml": "language: python3",
        "meta.json": "{}",
        "requirements.txt": "six",
    }
    assert names(laid_out(tmp_path, files)) == {
        "function/__init__.py", "function/handler.py", "function/data/model.bin",
        "extra/__init__.py", "index.py",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["src", "code/inner"])
def test_handler_folder_of_the_template_becomes_function(tmp_path: Path, name: str) -> None:
    files = {f"{name}/handler.py": "x = 1", "template.yml": f"handler_folder: {name}\n"}
    staged = laid_out(tmp_path, {**files, f"{name}/requirements.txt": "six"})
    assert names(staged) >= {"function/handler.py", "function/requirements.txt"}


@pytest.mark.parametrize(
    "template",
    [
        "handler_folder: ../../etc",
        "handler_folder: /etc",
        "handler_folder: 1",
        "a: [",
        "a: " + "x" * 70_000,
        "a: &a [x, x]\nhandler_folder: [*a, *a]",
        "a: &a {x: 1}\nb: {<<: [*a, *a]}",
    ],
)
def test_template_that_does_not_fit_is_refused(tmp_path: Path, template: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"template.yml"):
        read_context(context(tmp_path, {**HANDLER, "template.yml": template}))


def test_context_of_another_language_is_refused(tmp_path: Path) -> None:
    root = context(tmp_path, {"Dockerfile": "FROM golang", "function/handler.go": "package x"})
    with pytest.raises(InvalidRequestError) as caught:
        read_context(root)
    message = str(caught.value)
    assert "no function/handler.py" in message
    assert "Dockerfile is for clusters" in message
    assert "function/handler.go" in message


@pytest.mark.parametrize("name", ["sluice/__init__.py", "sluice.py", "sluice/x.py", "bundle.json"])
def test_name_that_the_runtime_needs_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="the runtime has that name"):
        laid_out(tmp_path, {**HANDLER, name: ""})


def test_second_function_folder_is_refused(tmp_path: Path) -> None:
    files = {"src/handler.py": "", "function/x.py": "", "template.yml": "handler_folder: src"}
    with pytest.raises(InvalidRequestError, match="'function' is there besides"):
        laid_out(tmp_path, files)
