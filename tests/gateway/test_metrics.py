"""The series that Prometheus and OpenFaaS's dashboards read."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import MAX_CODES, METRICS, Metrics, exposition
from gateway.types.ids import FunctionId
from gateway.types.scaling import FunctionLoad


def scrape(metrics: Metrics) -> tuple[str, dict[tuple[str, str, str], float]]:
    """The text, and its samples by (name, function, code or bound)."""
    registry = CollectorRegistry()
    registry.register(metrics)
    text = exposition(registry).decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            third = "/".join(labels[key] for key in ("code", "le") if key in labels)
            samples[sample.name, labels.get("function_name", ""), third] = sample.value
    return text, samples


def filled() -> Metrics:
    metrics = Metrics()
    function = metrics.function("f.openfaas-fn")
    function.started = 3
    function.answered(200, 0.004)
    function.answered(200, 0.03)
    function.answered(502, 99.0)
    function.waits.observe(0.2)
    metrics.read_loads(
        lambda: [FunctionLoad(FunctionId("f"), 4, 2, 7, 5, demand_seconds=1.0, arrivals=9)]
    )
    return metrics


def test_metrics_series_have_the_names_types_and_help_of_the_contract() -> None:
    text, _samples = scrape(filled())
    for row in METRICS:
        assert f"# TYPE {row.name} {row.type}\n" in text
        assert f"# HELP {row.name} {row.help}\n" in text


def test_metrics_of_openfaas_are_all_there() -> None:
    rows = {row.name: (row.type, row.labels, row.help) for row in METRICS}
    assert rows["gateway_function_invocation_total"] == (
        "counter",
        ("code", "function_name"),
        "Function metrics",
    )
    assert rows["gateway_functions_seconds"] == (
        "histogram",
        ("code", "function_name"),
        "Function time taken",
    )
    assert rows["gateway_function_invocation_started"] == (
        "counter",
        ("function_name",),
        "The total number of function HTTP requests started.",
    )
    assert rows["gateway_service_count"] == (
        "gauge",
        ("function_name",),
        "Current count of replicas for function",
    )


def test_metrics_values_are_exposed_by_function_and_code() -> None:
    text, samples = scrape(filled())
    name = "f.openfaas-fn"
    assert samples["gateway_function_invocation_total", name, "200"] == 2
    assert samples["gateway_function_invocation_total", name, "502"] == 1
    assert f'gateway_function_invocation_started{{function_name="{name}"}} 3.0\n' in text
    assert samples["gateway_service_count", name, ""] == 4
    assert samples["sluice_replicas_ready", name, ""] == 2
    assert samples["sluice_calls_in_flight", name, ""] == 7
    assert samples["sluice_calls_waiting", name, ""] == 5


def test_metrics_histogram_buckets_cumulate_up_to_infinity() -> None:
    _text, samples = scrape(filled())
    name = "f.openfaas-fn"
    bounds = ["0.005", "0.01", "0.025", "0.05", "10.0", "+Inf"]
    found = [samples["gateway_functions_seconds_bucket", name, f"200/{each}"] for each in bounds]
    assert found == [1, 1, 1, 2, 2, 2]
    assert samples["gateway_functions_seconds_bucket", name, "502/10.0"] == 0
    assert samples["gateway_functions_seconds_bucket", name, "502/+Inf"] == 1
    assert samples["gateway_functions_seconds_sum", name, "200"] == 0.034
    assert samples["gateway_functions_seconds_count", name, "200"] == 2
    assert samples["sluice_call_wait_seconds_count", name, ""] == 1


def test_metrics_value_on_a_bound_falls_below_it() -> None:
    metrics = Metrics()
    metrics.read_loads(list)
    function = metrics.function("f")
    function.started = 1
    function.answered(200, 0.005)
    _text, samples = scrape(metrics)
    assert samples["gateway_functions_seconds_bucket", "f", "200/0.005"] == 1


def test_metrics_without_a_source_of_loads_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="read_loads comes before the first scrape"):
        scrape(Metrics())


def test_metrics_codes_of_one_function_are_bounded() -> None:
    metrics = Metrics()
    metrics.read_loads(list)
    function = metrics.function("f")
    function.started = 700
    for code in range(200, 900):
        function.answered(code, 0.1)
    _text, samples = scrape(metrics)
    codes = [key for key in samples if key[0] == "gateway_function_invocation_total"]
    assert len(codes) == MAX_CODES + 1
    assert samples["gateway_function_invocation_total", "f", "other"] == 700 - MAX_CODES
    assert metrics.invocations("f") == 700


def test_metrics_of_a_removed_function_are_gone() -> None:
    metrics = filled()
    metrics.forget("f.openfaas-fn")
    metrics.read_loads(list)
    _text, samples = scrape(metrics)
    assert [key for key in samples if key[1]] == []
    assert metrics.invocations("f.openfaas-fn") == 0


def test_scrape_does_not_hold_calls_up_for_series_of_functions_that_were_never_called() -> None:
    metrics = filled()
    called = FunctionLoad(FunctionId("f"), 1, 1, 0, 0, demand_seconds=1.0, arrivals=9)
    idle = [
        FunctionLoad(FunctionId(f"idle-{number}"), 0, 0, 0, 0, demand_seconds=0.0, arrivals=0)
        for number in range(100)
    ]
    for load in idle:
        metrics.function(str(load.function))
    metrics.read_loads(lambda: [called, *idle])
    _text, samples = scrape(metrics)
    of_idle = {name for name, function, _third in samples if function.startswith("idle-")}
    assert of_idle == {"gateway_service_count", "sluice_replicas_ready"}
    assert samples["gateway_service_count", "idle-99.openfaas-fn", ""] == 0
    assert samples["sluice_call_retries_total", "f.openfaas-fn", ""] == 0
