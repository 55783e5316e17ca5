import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.building import inspection
from gateway.building.child import Ended, python_command, run_child
from gateway.building.inspection import ASGI, EVENT, REQUEST, UNKNOWN, InspectionError, inspect


def bundle(tmp_path: Path, handler: str, others: Mapping[str, str] | None = None) -> Path:
    for name, text in {"function/handler.py": handler, **(others or {})}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "form"),
    [
        ("def handle(event, context): pass", EVENT),
        ("async def handle(event, context, /): pass", EVENT),
        ("def handle(event, context=None): pass", EVENT),
        ("def handle(*parts): pass", EVENT),
        ("def handle(event, *rest, flag=1): pass", EVENT),
        ("handle = lambda event, context: 1", EVENT),
        ("def handle(req): pass", REQUEST),
        ("async def handle(req): yield 1", REQUEST),
        ("def handle(req=None): pass", REQUEST),
        ("handle: object = lambda req: req", REQUEST),
        ("import os\nif os.name:\n    def handle(req): pass", REQUEST),
        ("try:\n    pass\nexcept OSError:\n    pass\nelse:\n    def handle(req): pass", REQUEST),
        ("def handle(): pass\ndef handle(req): pass", REQUEST),
        ("app = FastAPI()", ASGI),
        ("app, other = make()", ASGI),
        ("async def app(scope, receive, send): pass", ASGI),
        ("class app: pass", ASGI),
        ("from somewhere import application as app", ASGI),
        ("app = 1\ndef handle(req): pass", REQUEST),
        ("handle = make()", UNKNOWN),
        ("from library import handle", UNKNOWN),
        ("from functools import partial\nhandle = partial(print, 1)", UNKNOWN),
    ],
)
def test_form_is_found_in_the_source(tmp_path: Path, source: str, form: str) -> None:
    assert inspect(bundle(tmp_path, source)) == form


@pytest.mark.parametrize(
    "line",
    [
        "from .steps import run as handle",
        "from function.steps import run as handle",
        "from shared.steps import run as handle",
        "from .facade import *\nhandle = handle",
    ],
)
def test_imported_handler_is_followed(tmp_path: Path, line: str) -> None:
    steps = "def run(req): pass\n"
    others = {
        "function/steps.py": steps,
        "shared/steps.py": steps,
        "function/facade.py": "from .steps import run as handle\n",
    }
    expected = UNKNOWN if "*" in line else REQUEST
    assert inspect(bundle(tmp_path, line, others)) == expected


def test_star_import_is_followed(tmp_path: Path) -> None:
    others = {"function/steps.py": "def handle(req): pass\n"}
    assert inspect(bundle(tmp_path, "from .steps import *", others)) == REQUEST


def test_app_of_a_star_import_is_found(tmp_path: Path) -> None:
    others = {"function/web.py": "app = make()\n"}
    assert inspect(bundle(tmp_path, "from .web import *", others)) == ASGI


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    others = {"function/other.py": "from .handler import handle\n"}
    assert inspect(bundle(tmp_path, "from .other import handle", others)) == UNKNOWN


@pytest.mark.parametrize("source", ["", "def main(): pass\nX = 1", "class C:\n  def handle(s): 1"])
def test_module_without_a_handler_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(InspectionError) as caught:
        inspect(bundle(tmp_path, source))
    message = str(caught.value)
    assert "handle(event, context), handle(req) or app" in message
    assert ("main, X" in message) == ("main" in source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def handle(): pass", "line 1: handle takes 0 parameters"),
        ("\ndef handle(a, b, c): pass", "line 2: handle takes 3 parameters"),
        ("def handle(req, *, key): pass", "demands keyword 'key'"),
    ],
)
def test_handler_that_cannot_be_called_is_refused(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(InspectionError, match=f"function/handler.py {words}|{words}"):
        inspect(bundle(tmp_path, source))


def test_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(InspectionError, match=r"function/handler.py line 2: .*: return\( 1"):
        inspect(bundle(tmp_path, "def handle(req):\n    return( 1\n"))


def test_syntax_error_of_a_sibling_counts(tmp_path: Path) -> None:
    others = {"function/model.py": "x = 1\nx =\n"}
    with pytest.raises(InspectionError, match=r"function/model.py line 2: invalid syntax"):
        inspect(bundle(tmp_path, "def handle(req): pass", others))


@pytest.mark.parametrize("content", [b"\0", b"# coding: nonsense\n", b"\xff = 1\n"])
def test_source_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = bundle(tmp_path, "")
    (folder / "function/handler.py").write_bytes(content)
    with pytest.raises(InspectionError, match=r"function/handler.py"):
        inspect(folder)


async def run(folder: Path) -> Ended:
    async def report(line: str) -> None:
        await asyncio.sleep(0)

    return await run_child(python_command(inspection.__file__, folder), {}, report)


async def test_script_answers_in_json(tmp_path: Path) -> None:
    ended = await run(bundle(tmp_path, "def handle(req): pass"))
    assert json.loads(ended.output) == {"form": REQUEST, "error": ""}


async def test_source_that_ends_the_parser_harms_nobody(tmp_path: Path) -> None:
    deep = "x = " + "-" * 400_000 + "1\ndef handle(req): pass\n"
    ended = await run(bundle(tmp_path, deep))
    assert ended.code != 0 or "function/handler.py" in json.loads(ended.output)["error"]
