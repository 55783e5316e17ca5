import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.runtime.python.function import Form, Function, load_function
from sluice.runtime.serving.application import FunctionError


@pytest.fixture(autouse=True)
def fresh_import() -> Iterator[None]:
    """Each test imports a package named function of its own."""
    path = list(sys.path)
    forget()
    yield
    sys.path[:] = path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "function"]:
        del sys.modules[name]


def load(folder: Path, handler: str, **siblings: str) -> Function:
    package = folder / "function"
    package.mkdir()
    (package / "handler.py").write_text(handler)
    for name, text in siblings.items():
        (package / f"{name}.py").write_text(text)
    return load_function(folder)


@pytest.mark.parametrize(
    ("source", "form", "is_async"),
    [
        ("def handle(event, context): ...", Form.EVENT, False),
        ("async def handle(event, context): ...", Form.EVENT, True),
        ("async def handle(event, context):\n    yield 1", Form.EVENT, True),
        ("def handle(event, context=None): ...", Form.EVENT, False),
        ("def handle(*arguments): ...", Form.EVENT, False),
        ("def handle(req): ...", Form.REQUEST, False),
        ("async def handle(req): ...", Form.REQUEST, True),
        ("async def app(scope, receive, send): ...", Form.ASGI, True),
        ("class H:\n    async def __call__(self, req): ...\nhandle = H()", Form.REQUEST, True),
        (
            (
                "import functools\nasync def f(a, event, context): ...\n"
                "handle = functools.partial(f, 1)"
            ),
            Form.EVENT,
            True,
        ),
    ],
)
def test_form_is_found(tmp_path: Path, source: str, form: Form, is_async: bool) -> None:
    function = load(tmp_path, source)
    assert function.form is form
    assert function.is_async is is_async


def test_handle_wins_over_app(tmp_path: Path) -> None:
    source = "def handle(event, context): ...\nasync def app(scope, receive, send): ..."
    assert load(tmp_path, source).form is Form.EVENT


def test_siblings_are_imported_relatively(tmp_path: Path) -> None:
    function = load(
        tmp_path,
        "from .model import NAME\nfrom function.model import NAME as SAME\n"
        "def handle(event, context):\n    return NAME + SAME",
        model="NAME = 'iris'",
    )
    assert function.handler(None, None) == "irisiris"


def test_missing_file_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(FunctionError, match=r"handler\.py is missing \(there is no folder"):
        load_function(tmp_path)
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "main.py").touch()
    with pytest.raises(FunctionError, match=r"function/ holds \['main\.py'\]"):
        load_function(tmp_path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\ndef handle(:\n", r"function/handler\.py line 2: SyntaxError: .*def handle\(:"),
        ("import no_such_lib", r"line 1: No module named 'no_such_lib': .*requirements\.txt"),
        ("from .gone import x", r"line 1: ModuleNotFoundError: .*function\.gone"),
        ("\nx = 1 / 0", r"function/handler\.py line 2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", r"line 2: sys\.exit\(3\) called while being imported"),
        ("import json\nmodel = 1", r"looked for handle\(event, context\).*found json, model"),
        ("", r"found no names"),
        ("handle = 3", r"handle is a int"),
        ("def handle(a, b, c): ...", r"handle takes \(a, b, c\)"),
        ("def handle(): ...", r"handle takes \(\)"),
        ("def app(environ, start_response): ...", r"a WSGI app has two"),
        ("app = 3", r"app is a int"),
        ("init = 3\ndef handle(req): ...", r"init is a int"),
    ],
)
def test_fault_is_named_with_its_place(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(FunctionError, match=said) as caught:
        load(tmp_path, source)
    assert str(tmp_path) not in str(caught.value)


def test_fault_in_a_sibling_names_the_sibling(tmp_path: Path) -> None:
    with pytest.raises(FunctionError, match=r"function/model\.py line 1: SyntaxError"):
        load(tmp_path, "from . import model", model="def f(:")


def test_fault_deep_in_a_library_names_the_handlers_line(tmp_path: Path) -> None:
    with pytest.raises(FunctionError, match=r"function/handler\.py line 2: JSONDecodeError"):
        load(tmp_path, "import json\njson.loads('{')")
