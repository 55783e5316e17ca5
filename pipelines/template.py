"""Inputs with `${{ expression }}` in them: a text that is one expression keeps its value's type."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipelines.evaluation import ExpressionError, Scope
from pipelines.expression import Expression, Path, parse

PLACEHOLDER: Final = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
DEEPEST: Final = 32


@dataclass(frozen=True, slots=True)
class Template:
    """A value with expressions in it. references: the paths that they use."""

    references: frozenset[Path]
    _render: Callable[[Scope], Any]

    def render(self, scope: Scope) -> Any:
        """The value in `scope`. Raises ExpressionError."""
        return self._render(scope)


def compile_template(value: Any) -> Template:
    """A template of a JSON-like value. Raises ExpressionError naming the key it is under."""
    references: set[Path] = set()
    render = _compile(value, references, 0)
    return Template(frozenset(references), render)


def compile_expression(text: Any) -> Expression:
    """The expression in a text, with or without `${{ }}` around it. Raises ExpressionError."""
    if not isinstance(text, str):
        raise ExpressionError(f"expected an expression, got {json.dumps(text)}")
    match = PLACEHOLDER.fullmatch(text.strip())
    return parse(match[1] if match else text)


def _compile(value: Any, references: set[Path], depth: int) -> Callable[[Scope], Any]:
    if depth > DEEPEST:
        raise ExpressionError(f"expected at most {DEEPEST} levels")
    if isinstance(value, Mapping):
        fields = {str(key): _under(str(key), one, references, depth) for key, one in value.items()}
        return lambda scope: {key: render(scope) for key, render in fields.items()}
    if isinstance(value, list):
        parts = [_under(str(at), one, references, depth) for at, one in enumerate(value)]
        return lambda scope: [render(scope) for render in parts]
    if isinstance(value, str) and "${{" in value:
        return _text(value, references)
    if value is not None and not isinstance(value, str | bool | int | float):
        raise ExpressionError(f"expected JSON, got {value!r}")
    return lambda _: value


def _under(key: str, value: Any, references: set[Path], depth: int) -> Callable[[Scope], Any]:
    try:
        return _compile(value, references, depth + 1)
    except ExpressionError as error:
        raise ExpressionError(f"{key}: {error}") from None


def _text(value: str, references: set[Path]) -> Callable[[Scope], Any]:
    whole = PLACEHOLDER.fullmatch(value.strip())
    if whole is not None and value.count("${{") == 1:
        expression = parse(whole[1])
        references |= expression.references
        return expression.evaluate
    pieces: list[str | Expression] = []
    at = 0
    for match in PLACEHOLDER.finditer(value):
        pieces += [value[at : match.start()], parse(match[1])]
        at = match.end()
    pieces.append(value[at:])
    if any(isinstance(piece, str) and "${{" in piece for piece in pieces):
        raise ExpressionError(f"{value!r}: '${{{{' without '}}}}'")
    for piece in pieces:
        if isinstance(piece, Expression):
            references |= piece.references
    return lambda scope: "".join(_as_text(piece, scope) for piece in pieces)


def _as_text(piece: str | Expression, scope: Scope) -> str:
    if isinstance(piece, str):
        return piece
    value = piece.evaluate(scope)
    return value if isinstance(value, str) else json.dumps(value)
