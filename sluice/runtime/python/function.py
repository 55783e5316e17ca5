"""Loads the handler of a bundle and finds its form; errors name file, line and cause."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from sluice.runtime.python import legacy_imports
from sluice.runtime.serving.application import FunctionError

HANDLER: Final = Path("function") / "handler.py"
EXPECTED: Final = "handle(event, context), handle(req) or app (ASGI)"
GENERATED: Final = frozenset({"annotations"})  # names `from __future__` leaves in a module


class Form(Enum):
    """How a handler is called."""

    EVENT = "handle(event, context)"
    REQUEST = "handle(req)"
    ASGI = "app"


@dataclass(frozen=True, slots=True)
class Function:
    """A loaded handler, its form, and its init() if it has one.

    many: the handler's handle_many, which takes several calls at once; None without one.
    """

    form: Form
    handler: Callable[..., Any]
    init: Callable[[], Any] | None
    many: Callable[..., Any] | None = None

    @property
    def is_async(self) -> bool:
        """Whether calling the handler gives a coroutine or an async generator."""
        call = self._routine()
        return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)

    def _routine(self) -> object:
        if inspect.isroutine(self.handler):
            return self.handler
        return getattr(self.handler, "func", None) or type(self.handler).__call__


def load_function(bundle: Path) -> Function:
    """The handler of `bundle`, imported as function.handler. Raises FunctionError."""
    _check_there(bundle)
    sys.path.insert(0, str(bundle))
    importlib.invalidate_caches()
    legacy_imports.install()
    with_reason = Faults(bundle)
    module = with_reason.of(lambda: importlib.import_module("function.handler"), "being imported")
    if Path(str(module.__file__)).resolve() != (bundle / HANDLER).resolve():
        raise FunctionError(f"another package named function hides {HANDLER}: {module.__file__}")
    form, handler = _find(module)
    init = getattr(module, "init", None)
    if init is not None and not callable(init):
        raise FunctionError(f"{HANDLER}: init is a {type(init).__name__}: expected init()")
    function = Function(form, handler, init, getattr(module, "handle_many", None))
    if function.many is not None:
        _check_many(function)
    return function


class Faults:
    """Turns what a function's own code raises into a FunctionError that names file and line."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle.resolve()

    def of(self, code: Callable[[], Any], doing: str) -> Any:
        """What `code` returns. Raises FunctionError; doing: what a sys.exit() interrupted."""
        try:
            return code()
        except (Exception, SystemExit) as error:
            raise FunctionError(self.reason(error, doing)) from error

    def reason(self, error: BaseException, doing: str) -> str:
        """One line: where in the bundle the error happened, and what it was."""
        if isinstance(error, SyntaxError):
            where = self._line(error.filename or "", error.lineno)
            source = f": {error.text.strip()}" if error.text else ""
            return f"{where}: {type(error).__name__}: {error.msg}{source}"
        where = self._last_frame(error)
        if isinstance(error, SystemExit):
            return f"{where}: sys.exit({error.code!r}) called while {doing}"
        if isinstance(error, ModuleNotFoundError) and not _is_own(error.name):
            return f"{where}: {error}: is it missing in requirements.txt?"
        return f"{where}: {type(error).__name__}: {error}"

    def _last_frame(self, error: BaseException) -> str:
        frames = traceback.extract_tb(error.__traceback__)
        for frame in reversed(frames):
            if self._inside(frame.filename):
                return self._line(frame.filename, frame.lineno)
        return str(HANDLER)

    def _line(self, filename: str, line: int | None) -> str:
        if not self._inside(filename):
            return f"{Path(filename).name} line {line}"
        return f"{Path(filename).resolve().relative_to(self._bundle)} line {line}"

    def _inside(self, filename: str) -> bool:
        return Path(filename).resolve().is_relative_to(self._bundle)


def _check_there(bundle: Path) -> None:
    if (bundle / HANDLER).is_file():
        return
    folder = bundle / HANDLER.parent
    held = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else None
    found = "there is no folder function" if held is None else f"function/ holds {held[:20]}"
    raise FunctionError(f"{HANDLER} is missing ({found}): expected it to define {EXPECTED}")


def _check_many(function: Function) -> None:
    many = function.many
    if not callable(many) or inspect.iscoroutinefunction(many):
        raise FunctionError(f"{HANDLER}: handle_many: expected a sync function of a list of calls")
    if function.form is not Form.EVENT or not function.is_async:
        raise FunctionError(f"{HANDLER}: handle_many needs an async handle(event, context)")


def _find(module: ModuleType) -> tuple[Form, Callable[..., Any]]:
    handle = getattr(module, "handle", None)
    if handle is not None:
        return _form_of(handle), handle
    app = getattr(module, "app", None)
    if app is not None:
        _check_asgi(app)
        return Form.ASGI, app
    names = sorted(
        name for name in vars(module) if not name.startswith("_") and name not in GENERATED
    )
    raise FunctionError(
        f"{HANDLER} has no handler: looked for {EXPECTED}, found {', '.join(names) or 'no names'}"
    )


def _form_of(handle: object) -> Form:
    """EVENT when it takes two positional arguments, REQUEST when it takes just one."""
    if not callable(handle):
        raise FunctionError(f"{HANDLER}: handle is a {type(handle).__name__}: expected a function")
    signature = _signature(handle, "handle")
    for form, count in ((Form.EVENT, 2), (Form.REQUEST, 1)):
        if _takes(signature, count):
            return form
    raise FunctionError(
        f"{HANDLER}: handle takes {signature}: expected {Form.EVENT.value} or {Form.REQUEST.value}"
    )


def _check_asgi(app: object) -> None:
    if not callable(app):
        raise FunctionError(f"{HANDLER}: app is a {type(app).__name__}: expected an ASGI 3 app")
    signature = _signature(app, "app")
    if not _takes(signature, 3):
        hint = ", a WSGI app has two" if _takes(signature, 2) else ""
        raise FunctionError(
            f"{HANDLER}: app takes {signature}: expected ASGI 3's (scope, receive, send){hint}"
        )


def _signature(code: Callable[..., Any], name: str) -> inspect.Signature:
    try:
        return inspect.signature(code)
    except (TypeError, ValueError) as error:
        raise FunctionError(f"{HANDLER}: {name} does not say what arguments it takes") from error


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _is_own(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == "function"
