from typing import Any

import pytest

from pipelines.evaluation import ExpressionError, MissingError
from pipelines.expression import parse

SCOPE: dict[str, Any] = {
    "input": {"n": 3, "name": "wine", "flag": True, "none": None, "list": [1, 2, 3]},
    "steps": {"train-a": {"output": {"score": 0.91, "rows": [{"id": 7}]}}},
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 < 2", True),
        ("-1.5e1 == -15", True),
        ("'a' < \"b\"", True),
        ("input.n >= 3 and input.name == 'wine'", True),
        ("not input.flag or input.n != 3", False),
        ("not not input.flag", True),
        ("(1 == 2 or true) and not false", True),
        ("steps.train-a.output.score > 0.9", True),
        ("steps.train-a.output.rows[0].id", 7),
        ("steps['train-a'].output['score']", 0.91),
        ("input.list[-1]", 3),
        ("input.list[input.n]", MissingError),
        ("2 in input.list", True),
        ("'x' not in [input.name, 'y']", True),
        ("'score' in steps.train-a.output", True),
        ("'in' in 'wine'", True),
        ("len(input.list) == 3", True),
        ("input.gone ?? input.none ?? 'default'", "default"),
        ("input.none ?? null", None),
        ("true == 1", False),
        ("null == input.none", True),
        ("[1, 'a', []]", [1, "a", []]),
        ("input.gone", MissingError),
        ("item", MissingError),
        ("1 < 'a'", ExpressionError),
        ("true < false", ExpressionError),
        ("1 and true", ExpressionError),
        ("len(3)", ExpressionError),
        ("1 in 2", ExpressionError),
        ("input.list[true]", MissingError),
    ],
)
def test_expression_has_the_value_that_it_says(source: str, expected: Any) -> None:
    if isinstance(expected, type):
        with pytest.raises(expected):
            parse(source).evaluate(SCOPE)
    else:
        value = parse(source).evaluate(SCOPE)
        assert value == expected
        assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "expected a value at character 1, got the end"),
        ("1 +", "character 3 begins nothing known"),
        ("input.n ==", "expected a value"),
        ("(1", "expected ')'"),
        ("input.", "expected a name"),
        ("1 2", "expected the end at character 3, got '2'"),
        ("a < b < c", "expected the end"),
        ("'open", "begins nothing known"),
        ("__import__('os')", "expected the end"),
        ("(" * 100 + "1" + ")" * 100, "at most 40 levels"),
        ("1" * 3000, "at most 2000 characters"),
    ],
)
def test_expression_that_is_none_says_where_and_what_was_expected(source: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(source)
    assert told in str(caught.value)


def test_references_are_known_before_anything_is_evaluated() -> None:
    found = parse("steps.a.output.x > input.n and item[input.k].z in run.id").references
    assert found == {
        ("steps", "a", "output", "x"),
        ("input", "n"),
        ("input", "k"),
        ("item",),
        ("run", "id"),
    }


def test_condition_must_be_true_or_false() -> None:
    with pytest.raises(ExpressionError, match="expected true or false, got 3"):
        parse("input.n").is_true(SCOPE)


def test_python_objects_are_out_of_reach() -> None:
    with pytest.raises(MissingError, match="has no '__class__'"):
        parse("input.__class__").evaluate(SCOPE)
