import pytest

from service.gateway_client import DeployedFunction
from sluice.labels import LabelError
from triggers.kafka.options import KafkaOptions
from triggers.kafka.topics import TopicMap


def function(name: str, topic: str, **annotations: str) -> DeployedFunction:
    return DeployedFunction(name, "fn", {"topic": topic, **annotations}, {}, 1, 1)


def test_topics_are_split_trimmed_and_without_the_cron_word() -> None:
    found = TopicMap.of([function("f", " a ,b,,a, cron-function"), function("g", "cron-function")])
    assert found.subscriptions["f.fn"].topics == ("a", "b")
    assert found.subscriptions["f.fn"].group == "sluice.fn.f"
    assert list(found.subscriptions) == ["f.fn"]
    assert found.topics == {"a", "b"}


@pytest.mark.parametrize(
    ("topic", "annotations", "text"),
    [
        ("a b", {}, "topic='a b': expected topics of letters"),
        ("a", {"com.sluice.kafka.mode": "both"}, "com.sluice.kafka.mode='both': expected sync or"),
        ("a", {"com.sluice.kafka.modes": "sync"}, "com.sluice.kafka.modes='sync': expected one of"),
        ("a", {"com.sluice.kafka.max-in-flight": "0"}, "a whole number from 1 to 1000"),
        ("a", {"com.sluice.kafka.retry-codes": "5xx"}, "HTTP status codes"),
        ("a", {"com.sluice.kafka.result-topic": "a"}, "a topic the function does not consume"),
        ("a", {"com.sluice.kafka.dead-letter-topic": "a"}, "a topic the function does not consume"),
        ("a", {"com.sluice.kafka.retry-min-wait": "60s"}, "no less than"),
        ("a", {"com.sluice.kafka.content-type": "a\nb"}, "a media type"),
        (
            "a",
            {"com.sluice.kafka.mode": "async", "com.sluice.kafka.result-topic": "b"},
            "mode=sync",
        ),
        ("a", {"com.sluice.kafka.mode": "async", "com.sluice.kafka.batch-size": "2"}, "mode=sync"),
    ],
)
def test_annotations_that_do_not_fit_are_refused_by_name(
    topic: str, annotations: dict[str, str], text: str
) -> None:
    found = TopicMap.of([function("f", topic, **annotations), function("ok", "c")])
    assert text in found.refused["f.fn"]
    assert list(found.subscriptions) == ["ok.fn"]


def test_dead_letter_topic_is_the_functions_own_unless_named_or_none() -> None:
    name = "com.sluice.kafka.dead-letter-topic"
    found = TopicMap.of(
        [
            function("f", "a"),
            function("g", "a", **{name: "x"}),
            function("h", "a", **{name: "none"}),
        ]
    ).subscriptions
    topics = [found[f"{one}.fn"].dead_letter_topic for one in "fgh"]
    assert topics == ["sluice.dead-letter.fn.f", "x", ""]


def test_defaults_are_earliest_in_order_and_at_least_once() -> None:
    options = KafkaOptions.load({})
    assert (options.mode, options.start_offset, options.order) == ("sync", "earliest", "partition")
    assert options.retry_codes == {408, 429, 500, 502, 503, 504}
    with pytest.raises(LabelError, match=r"com\.sluice\.kafka\.order"):
        KafkaOptions.load({"com.sluice.kafka.order": "none"})
