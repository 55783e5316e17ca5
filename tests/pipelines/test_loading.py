from textwrap import dedent, indent
from typing import Any

import pytest

from pipelines.definition import Pipeline
from pipelines.errors import InvalidRequestError
from pipelines.loading import load_pipelines
from testbed.platform import ROOT

FUNCTIONS = {"echo", "echo.openfaas-fn", "train"}


def pipeline(text: str) -> str:
    return "pipelines:\n  demo:\n" + indent(dedent(text), "    ")


def load(text: str) -> Pipeline:
    return load_pipelines(pipeline(text), "functions/pipelines.yml", FUNCTIONS)["demo"]


def test_pipelines_of_the_project_are_good() -> None:
    source = (ROOT / "functions" / "pipelines.yml").read_text()
    found = load_pipelines(source, "pipelines.yml")
    assert set(found) == {"retrain", "batch-predict"}
    assert found["retrain"].triggers.topics == ("retrain",)
    assert found["retrain"].steps["evaluate"].needs == {
        "preprocess",
        "train-first",
        "train-second",
    }


def test_step_needs_what_it_refers_to_and_what_it_comes_after() -> None:
    made = load(
        """
        steps:
          last: {function: echo, after: [b], when: "steps.a.state == 'succeeded'"}
          c: {function: echo, map: {over: "${{ steps.b.output }}"}, input: "${{ item }}"}
          b: {function: train, input: {x: "${{ steps.a.output.y }}"}}
          a: {function: echo.openfaas-fn}
        """
    )
    assert next(iter(made.steps)) == "a"
    assert made.steps["last"].needs == {"a", "b"}
    assert made.steps["c"].needs == {"b"}
    assert made.downstream("b") == {"b", "c", "last"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps: {}", "pipeline demo: steps: expected an object of 1 to 200"),
        ("steps: {a: {function: gone}}", "pipeline demo, step a: unknown function 'gone'"),
        ("steps: {a: {}}", "step a: function: expected NAME or NAME.NAMESPACE"),
        ("steps: {A_b: {function: echo}}", "step A_b: name: expected a-z"),
        ("steps: {a: {function: echo, inputs: 1}}", "step a: no field 'inputs'; known: after"),
        (
            "steps: {a: {function: echo, input: '${{ input.x }}'}}",
            "step a, input: unknown input 'x'; the pipeline has none",
        ),
        (
            "steps: {a: {function: echo, query: {q: '${{ steps.b.output }}'}}}",
            "step a, query: unknown step 'b'; there are a",
        ),
        ("steps: {a: {function: echo, after: [b]}}", "step a: after: unknown step 'b'"),
        (
            "steps: {a: {function: echo}, b: {function: echo, input: '${{ steps.a.x }}'}}",
            "step b, input: steps.a: expected .output or .state",
        ),
        ("steps: {a: {function: echo, input: '${{ item }}'}}", "nothing is called 'item' here"),
        ("steps: {a: {function: echo, when: 'steps.a.state'}}", "step a: needs itself"),
        (
            "steps: {a: {function: echo, after: b}, b: {function: echo, after: a}}",
            "a cycle: ",
        ),
        ("steps: {a: {function: echo, retry: {attempts: 0}}}", "retry: attempts: expected 1 to"),
        ("steps: {a: {function: echo, retry: {codes: [200]}}}", "codes: expected 400 to 599"),
        ("steps: {a: {function: echo, timeout: never}}", "step a: timeout: expected a duration"),
        (
            "steps: {a: {function: echo, map: {over: '[1]', max_parallel: 0}}}",
            "step a, map: max_parallel: expected 1 to 64",
        ),
        ("steps: {a: {function: echo, when: '1 +'}}", "step a, when: '1 +': character 3"),
        ("steps: {a: {function: echo}, a: {function: echo}}", "line 3: 'a' is there twice"),
        ("{inputs: {x: {type: date}}, steps: {a: {function: echo}}}", "input x: type: expected"),
        (
            "{inputs: {x: {type: integer, default: a}}, steps: {a: {function: echo}}}",
            "input x: default: expected integer, got 'a'",
        ),
        ("{steps: {a: {function: echo}}, triggers: {cron: often}}", "triggers, cron: schedule"),
        ("{steps: {a: {function: echo}}, triggers: {topic: 'a b'}}", "triggers: topic: expected"),
        (
            "{inputs: {x: {}}, steps: {a: {function: echo}}, triggers: {cron: '@daily'}}",
            "triggers, cron: input 'x': expected a value, got nothing",
        ),
    ],
)
def test_fault_names_file_pipeline_and_step(text: str, told: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        load(text)
    assert str(caught.value).startswith("functions/pipelines.yml")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("a: [1", "line 1: "),
        ("[]", "expected an object"),
        ("version: 2\npipelines: {}", "version: expected 1, got 2"),
        ("pipelines: [a]", "pipelines: expected an object"),
        ("pipelines: {a: &x {steps: {}}, b: *x}", "aliases are not taken"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_file_that_is_none_is_refused_with_the_place(source: str, told: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        load_pipelines(source, "pipelines.yml")
    assert told in str(caught.value)


def test_topic_starts_one_pipeline_only() -> None:
    body = "{steps: {a: {function: echo}}, triggers: {topic: t}}"
    with pytest.raises(InvalidRequestError, match="topic 't' starts one"):
        load_pipelines(f"pipelines: {{one: {body}, two: {body}}}", "pipelines.yml")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "expected an object"),
        ({"n": 1}, "input 'name': expected a text, got nothing"),
        ({"name": "a", "n": "1"}, "input 'n': expected an integer, got '1'"),
        ({"name": "a", "n": True}, "input 'n': expected an integer, got True"),
        ({"name": "a", "other": 1}, "pipeline demo has no 'other'; it has n, name"),
    ],
)
def test_input_of_a_run_is_checked_by_name(given: Any, told: str) -> None:
    made = load(
        """
        inputs: {name: {type: text}, n: {type: integer, default: 5}}
        steps: {a: {function: echo}}
        """
    )
    assert made.read_input({"name": "a"}) == {"name": "a", "n": 5}
    with pytest.raises(InvalidRequestError) as caught:
        made.read_input(given)
    assert told in str(caught.value)
