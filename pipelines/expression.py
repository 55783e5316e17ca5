"""The expressions of pipelines.yml: literals, references, comparisons, `and`, `or`, `not`, `??`.

    or   := and ('or' and)*
    and  := not ('and' not)*
    not  := 'not' not | cmp
    cmp  := alt (('==' | '!=' | '<' | '<=' | '>' | '>=' | 'in' | 'not in') alt)?
    alt  := atom ('??' atom)*
    atom := literal | reference | '(' or ')' | '[' list ']' | 'len' '(' or ')'
    reference := NAME ('.' NAME | '[' or ']')*

A reference to a missing value is an error, unless `??` gives another one. `len` is the only
function. Nothing is converted: comparing a number with a text is an error.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from pipelines.evaluation import (
    ExpressionError,
    MissingError,
    Scope,
    boolean,
    compare,
    first,
    length,
    shown,
    walk,
)

LONGEST: Final = 2000
DEEPEST: Final = 40
TOKEN: Final = re.compile(
    r"""\s*(?:
    (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<text>'[^']*'|"[^"]*")
    |(?P<name>[A-Za-z_][A-Za-z0-9_-]*)
    |(?P<sign>==|!=|<=|>=|<|>|\?\?|\(|\)|\[|\]|,|\.)
    )""",
    re.VERBOSE,
)
WORDS: Final = frozenset({"and", "or", "not", "in", "true", "false", "null", "len"})
CONSTANTS: Final = {"true": True, "false": False, "null": None}
COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression. references: the leading names of each, as far as they are constant."""

    source: str
    references: frozenset[Path]
    _evaluate: Callable[[Scope], Any]

    def evaluate(self, scope: Scope) -> Any:
        """The value in `scope`. Raises ExpressionError."""
        try:
            return self._evaluate(scope)
        except MissingError as error:
            raise MissingError(f"{self.source!r}: {error}") from None
        except ExpressionError as error:
            raise ExpressionError(f"{self.source!r}: {error}") from None

    def is_true(self, scope: Scope) -> bool:
        """The value where it is a boolean. Raises ExpressionError for any other."""
        value = self.evaluate(scope)
        if not isinstance(value, bool):
            raise ExpressionError(f"{self.source!r}: expected true or false, got {shown(value)}")
        return value


def parse(source: str) -> Expression:
    """Raises ExpressionError saying where and what was expected."""
    if len(source) > LONGEST:
        raise ExpressionError(f"expression: expected at most {LONGEST} characters")
    parser = _Parser(source)
    evaluate = parser.whole()
    return Expression(source.strip(), frozenset(parser.references), evaluate)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent; each method returns a function of the scope."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = list(_tokens(source))
        self._next = self._depth = 0
        self.references: set[Path] = set()

    def whole(self) -> Callable[[Scope], Any]:
        found = self._or()
        if self._token.kind != "end":
            self._fail("the end")
        return found

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _takes(self, *texts: str) -> str:
        token = self._token
        if token.kind in {"sign", "name"} and token.text in texts:
            self._next += 1
            return token.text
        return ""

    def _expect(self, text: str) -> None:
        if not self._takes(text):
            self._fail(repr(text))

    def _fail(self, expected: str) -> NoReturn:
        token = self._token
        got = repr(token.text) if token.kind != "end" else "the end"
        raise ExpressionError(
            f"{self._source.strip()!r}: expected {expected} at character {token.at + 1}, got {got}"
        )

    def _or(self) -> Callable[[Scope], Any]:
        self._depth += 1
        if self._depth > DEEPEST:
            self._fail(f"at most {DEEPEST} levels")
        parts = [self._and()]
        while self._takes("or"):
            parts.append(self._and())
        self._depth -= 1
        if len(parts) == 1:
            return parts[0]
        return lambda scope: any(boolean(part(scope)) for part in parts)

    def _and(self) -> Callable[[Scope], Any]:
        parts = [self._not()]
        while self._takes("and"):
            parts.append(self._not())
        if len(parts) == 1:
            return parts[0]
        return lambda scope: all(boolean(part(scope)) for part in parts)

    def _not(self) -> Callable[[Scope], Any]:
        negated = False
        while self._takes("not"):
            negated = not negated
        part = self._comparison()
        return (lambda scope: not boolean(part(scope))) if negated else part

    def _comparison(self) -> Callable[[Scope], Any]:
        left = self._alternative()
        sign = self._takes(*COMPARISONS)
        if not sign and self._takes("not"):
            self._expect("in")
            sign = "not in"
        if not sign:
            return left
        right = self._alternative()
        return lambda scope: compare(sign, left(scope), right(scope))

    def _alternative(self) -> Callable[[Scope], Any]:
        parts = [self._atom()]
        while self._takes("??"):
            parts.append(self._atom())
        return parts[0] if len(parts) == 1 else lambda scope: first(parts, scope)

    def _atom(self) -> Callable[[Scope], Any]:
        token = self._token
        if token.kind == "name" and token.text not in WORDS:
            return self._reference()
        if token.kind in {"number", "text"} or token.text in CONSTANTS:
            self._next += 1
            return _constant(_literal(token))
        if self._takes("["):
            return self._list()
        measured = self._takes("len")
        self._expect("(") if measured else self._open()
        inner = self._or()
        self._expect(")")
        return (lambda scope: length(inner(scope))) if measured else inner

    def _open(self) -> None:
        if not self._takes("("):
            self._fail("a value")

    def _list(self) -> Callable[[Scope], Any]:
        parts: list[Callable[[Scope], Any]] = []
        while not self._takes("]"):
            if parts:
                self._expect(",")
            parts.append(self._or())
        return lambda scope: [part(scope) for part in parts]

    def _reference(self) -> Callable[[Scope], Any]:
        steps: list[Callable[[Scope], Any]] = []
        path = [self._token.text]
        self._next += 1
        constant = True
        while True:
            if self._takes("."):
                token = self._token
                if token.kind != "name":
                    self._fail("a name")
                self._next += 1
                steps.append(_constant(token.text))
                path += [token.text] if constant else []
            elif self._takes("["):
                constant = False
                steps.append(self._or())
                self._expect("]")
            else:
                break
        self.references.add(tuple(path))
        root = path[0]
        return lambda scope: walk(scope, root, steps)


def _tokens(source: str) -> Iterator[_Token]:
    at = 0
    end = len(source.rstrip())
    while at < end:
        match = TOKEN.match(source, at)
        if match is None or match.lastgroup is None:
            wrong = end - len(source[at:end].lstrip()) + 1
            raise ExpressionError(f"{source.strip()!r}: character {wrong} begins nothing known")
        yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
        at = match.end()
    yield _Token("end", "", at)


def _constant(value: Any) -> Callable[[Scope], Any]:
    return lambda _: value


def _literal(token: _Token) -> Any:
    if token.kind == "text":
        return token.text[1:-1]
    if token.kind == "name":
        return CONSTANTS[token.text]
    return int(token.text) if re.fullmatch(r"-?\d+", token.text) else float(token.text)
