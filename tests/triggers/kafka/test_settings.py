from pathlib import Path

import pytest

from sluice.settings import SettingError
from triggers.kafka.settings import KafkaSettings


def test_plain_broker_needs_its_address_only() -> None:
    client = KafkaSettings.load({"KAFKA_BOOTSTRAP": "a:1, b:2"}).client()
    assert client["bootstrap_servers"] == ["a:1", "b:2"]
    assert client["security_protocol"] == "PLAINTEXT"
    assert "ssl_context" not in client


def test_sasl_takes_the_password_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    environ = {
        "KAFKA_BOOTSTRAP": "a:1",
        "KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
        "KAFKA_SASL_MECHANISM": "scram-sha-512",
        "KAFKA_SASL_USERNAME": "me",
        "KAFKA_SASL_PASSWORD_FILE": str(secret),
        "KAFKA_TLS_CHECK_HOSTNAME": "false",
    }
    client = KafkaSettings.load(environ).client()
    assert client["sasl_plain_password"] == "open sesame"
    assert client["sasl_mechanism"] == "SCRAM-SHA-512"
    assert client["ssl_context"].check_hostname is False
    assert "open sesame" not in repr(KafkaSettings.load(environ))


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL='TLS'"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_MECHANISM=''"),
        (
            {
                "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USERNAME": "me",
                "KAFKA_SASL_PASSWORD_FILE": "/nowhere/at/all",
            },
            "KAFKA_SASL_PASSWORD_FILE='/nowhere/at/all'",
        ),
        ({"KAFKA_TLS_CERT": "x"}, "KAFKA_TLS_KEY=''"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_TLS_CA": "/nowhere"}, "KAFKA_TLS_CA='/nowhere'"),
        ({"SLUICE_TRIGGERS_KAFKA_BUFFER_RECORDS": "0"}, "BUFFER_RECORDS='0'"),
        ({"SLUICE_TRIGGERS_KAFKA_BUFER": "1"}, "SLUICE_TRIGGERS_KAFKA_BUFER='1': expected one of"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(environ: dict[str, str], text: str) -> None:
    with pytest.raises(SettingError) as caught:
        KafkaSettings.load({"KAFKA_BOOTSTRAP": "a:1", **environ})
    assert text in str(caught.value)
