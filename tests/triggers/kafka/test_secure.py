"""A broker that asks for TLS and a password: the settings as docs/kafka.md has them."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from testbed.kafka import KafkaBroker, why_not
from testbed.platform import free_ports
from tests.triggers.kafka.conftest import LEAKS, Starting, eventually
from tests.triggers.kafka.fake_gateway import FakeGateway

pytestmark = [LEAKS, pytest.mark.skipif(bool(why_not()), reason=f"no Kafka broker: {why_not()}")]

PASSWORD = "of-the-tests"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
# Beside the plain listener, through which the test makes topics and users.
PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SECURE://127.0.0.1:{secure}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
inter.broker.listener.name=PLAINTEXT
listener.name.secure.ssl.keystore.type=PKCS12
listener.name.secure.ssl.keystore.location={keystore}
listener.name.secure.ssl.keystore.password={password}
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config={plain} required user_plain="{password}";
listener.name.secure.scram-sha-512.sasl.jaas.config={scram} required;
"""
SettingsOf = Callable[..., dict[str, str]]


def keytool(*arguments: str) -> None:
    """Run Java's own tool for keys and certificates, which is where the broker is."""
    subprocess.run(["keytool", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A keystore with a key for 127.0.0.1, and the certificate to trust as PEM."""
    folder = tmp_path_factory.mktemp("certificates")
    keystore, authority = folder / "broker.p12", folder / "ca.pem"
    store = ("-keystore", str(keystore), "-storepass", PASSWORD, "-alias", "broker")
    extensions = (
        "san=ip:127.0.0.1",
        "bc:critical=ca:true",
        "ku:critical=digitalSignature,keyCertSign",
    )
    keytool(
        *("-genkeypair", *store, "-storetype", "PKCS12", "-keyalg", "EC", "-dname", "CN=broker"),
        *(word for extension in extensions for word in ("-ext", extension)),
    )
    keytool("-exportcert", "-rfc", *store, "-file", str(authority))
    return keystore, authority


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, certified: tuple[Path, Path]
) -> Iterator[tuple[KafkaBroker, str]]:
    """A broker, and the address at which it asks for a password over TLS."""
    broker = KafkaBroker(tmp_path_factory.mktemp("secured"))
    (secure,) = free_ports(1)
    broker.properties = PROPERTIES.format(
        port=broker.port,
        controller=broker.controller_port,
        secure=secure,
        keystore=certified[0],
        password=PASSWORD,
        plain=PLAIN,
        scram=SCRAM,
    )
    try:
        broker.start()
        admin = broker.admin()
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion("scram", ScramMechanism.SCRAM_SHA_512, PASSWORD)]
        )
        admin.close()
        yield broker, f"127.0.0.1:{secure}"
    finally:
        broker.stop()


@pytest.fixture
def address(secured: tuple[KafkaBroker, str]) -> str:
    """Where connectors find it: the other listener would let anybody in."""
    return secured[1]


@pytest.fixture
def settings_of(certified: tuple[Path, Path], tmp_path: Path) -> SettingsOf:
    def made(mechanism: str, user: str, password: str = PASSWORD) -> dict[str, str]:
        secret = tmp_path / "password"
        secret.write_text(f"{password}\n")
        return {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": mechanism,
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD_FILE": str(secret),
            "KAFKA_TLS_CA": str(certified[1]),
        }

    return made


@pytest.mark.parametrize(("mechanism", "user"), [("PLAIN", "plain"), ("SCRAM-SHA-512", "scram")])
async def test_records_and_results_go_through_tls_with_a_password(
    secured: tuple[KafkaBroker, str],
    gateway: FakeGateway,
    connect: Starting,
    settings_of: SettingsOf,
    mechanism: str,
    user: str,
) -> None:
    broker, _ = secured
    broker.create(f"{user}.in", f"{user}.out")
    broker.publish(f"{user}.in", [b"1", b"2"])
    gateway.deploy(user, f"{user}.in", result_topic=f"{user}.out")
    connector = connect(**settings_of(mechanism, user))
    await gateway.until(lambda: len(gateway.calls) == 2)
    # The producer and the commits go the same way.
    await connector.stop()
    broker.read(f"{user}.out", 2, key=lambda result: {b"1": 1, b"2": 2}[result.value])
    assert broker.committed(f"sluice.fn.{user}") == {(f"{user}.in", 0): 2}


@pytest.mark.parametrize("wrong", ["password", "authority"])
async def test_broker_that_is_refused_or_refuses_is_an_error_that_is_counted(
    secured: tuple[KafkaBroker, str],
    gateway: FakeGateway,
    connect: Starting,
    settings_of: SettingsOf,
    wrong: str,
) -> None:
    broker, _ = secured
    broker.create(wrong)
    broker.publish(wrong, [b"1"])
    gateway.deploy(wrong, wrong)
    settings = settings_of("PLAIN", "plain", "guessed" if wrong == "password" else PASSWORD)
    if wrong == "authority":
        del settings["KAFKA_TLS_CA"]  # the system's do not know this broker
    connector = connect(**settings)
    failures = "sluice_kafka_consumer_errors_total"
    await eventually(lambda: connector.sample(failures, function_name=f"{wrong}.fn"))
    await connector.stop()
    assert gateway.calls == []
