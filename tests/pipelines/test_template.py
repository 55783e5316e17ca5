import pytest

from pipelines.evaluation import ExpressionError
from pipelines.template import compile_expression, compile_template

SCOPE = {"input": {"n": 3, "name": "wine", "list": [1, 2]}}


def test_text_that_is_one_expression_keeps_the_type_of_its_value() -> None:
    template = compile_template(
        {"a": "${{ input.n }}", "b": ["${{ input.list }}", 1.5, None], "c": {"d": True}}
    )
    assert template.render(SCOPE) == {"a": 3, "b": [[1, 2], 1.5, None], "c": {"d": True}}


def test_expressions_within_a_text_become_text() -> None:
    template = compile_template("${{ input.name }}:${{ input.n }} ${{ input.list }} $ {{ }}")
    assert template.render(SCOPE) == "wine:3 [1, 2] $ {{ }}"


def test_value_that_looks_like_a_template_is_not_rendered_again() -> None:
    template = compile_template("${{ input.name }}")
    assert template.render({"input": {"name": "${{ input.n }}"}}) == "${{ input.n }}"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": ["${{ input. }}"]}, "a: 0: 'input.': expected a name"),
        ("${{ input.n", "'${{' without '}}'"),
        ({"a": {1, 2}}, "a: expected JSON"),
    ],
)
def test_template_that_is_none_names_the_key_it_is_under(value: object, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_template(value)
    assert told in str(caught.value)


def test_expression_may_stand_with_or_without_its_marks() -> None:
    assert compile_expression("${{ input.n == 3 }}").is_true(SCOPE)
    assert compile_expression("input.n == 3").is_true(SCOPE)
