"""The settings of the Kafka source, and kafka-python's options made of them."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from sluice.settings import (
    SettingError,
    load,
    parse_count,
    parse_duration,
    parse_flag,
    parse_size,
    parse_text,
    setting,
)

PREFIX: Final = "SLUICE_TRIGGERS_KAFKA_"
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.upper() not in words:
            raise ValueError(f"one of {', '.join(word for word in words if word)}")
        return text.upper()

    return parse


def _positive(text: str) -> float:
    if (value := parse_duration(text)) <= 0:
        raise ValueError("a duration above 0 such as 250ms or 10s")
    return value


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach the brokers, and the limits of every consumer."""

    bootstrap: str = setting(
        "KAFKA_BOOTSTRAP",
        "",
        parse_text,
        "Brokers to begin with, HOST:PORT with commas between; empty: no Kafka.",
    )
    security_protocol: str = setting(
        "KAFKA_SECURITY_PROTOCOL",
        "PLAINTEXT",
        _one_of(PROTOCOLS),
        "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
    )
    sasl_mechanism: str = setting(
        "KAFKA_SASL_MECHANISM",
        "",
        _one_of(MECHANISMS),
        "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.",
    )
    sasl_username: str = setting("KAFKA_SASL_USERNAME", "", parse_text, "User of SASL.")
    sasl_password_file: str = setting(
        "KAFKA_SASL_PASSWORD_FILE", "", parse_text, "File that holds the password of SASL."
    )
    tls_ca: str = setting(
        "KAFKA_TLS_CA", "", parse_text, "File of CA certificates; empty: the system's."
    )
    tls_certificate: str = setting(
        "KAFKA_TLS_CERT", "", parse_text, "File of the client's certificate."
    )
    tls_key: str = setting("KAFKA_TLS_KEY", "", parse_text, "File of the client's key.")
    tls_check_hostname: bool = setting(
        "KAFKA_TLS_CHECK_HOSTNAME",
        "true",
        parse_flag,
        "Whether the broker's certificate must name it.",
    )
    session_timeout: float = setting(
        PREFIX + "SESSION_TIMEOUT",
        "10s",
        _positive,
        "Time after which the broker gives a silent connector's partitions to others.",
    )
    commit_interval: float = setting(
        PREFIX + "COMMIT_INTERVAL",
        "100ms",
        _positive,
        "Least time between two commits of a consumer; what was done since is called again "
        "after kill -9.",
    )
    drain_timeout: float = setting(
        PREFIX + "DRAIN_TIMEOUT",
        "30s",
        parse_duration,
        "Time that calls under way have to end when partitions move or the connector stops.",
    )
    buffer_records: int = setting(
        PREFIX + "BUFFER_RECORDS",
        "2000",
        parse_count,
        "Records of one partition held ahead of their calls before it is paused.",
    )
    buffer_bytes: int = setting(
        PREFIX + "BUFFER_BYTES",
        "8Mi",
        parse_size,
        "Bytes of one partition held ahead of their calls before it is paused.",
    )
    signal_interval: float = setting(
        PREFIX + "SIGNAL_INTERVAL",
        "2s",
        _positive,
        "Time between two reports of lag, as metric and to the gateway's autoscaler.",
    )
    metadata_interval: float = setting(
        PREFIX + "METADATA_INTERVAL",
        "5s",
        _positive,
        "Time between two looks for new topics and partitions.",
    )

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """The settings of `environ`. Raises SettingError."""
        settings = load(cls, environ, PREFIX)
        if settings.buffer_records < 1:
            raise SettingError(f"{PREFIX}BUFFER_RECORDS", "0", "a whole number, 1 or more")
        sasl = settings.security_protocol.startswith("SASL")
        if sasl and not (settings.sasl_mechanism and settings.sasl_username):
            rule = f"with {settings.security_protocol}: a mechanism and KAFKA_SASL_USERNAME"
            raise SettingError("KAFKA_SASL_MECHANISM", settings.sasl_mechanism, rule)
        if sasl:
            settings.password()
        if bool(settings.tls_certificate) != bool(settings.tls_key):
            raise SettingError("KAFKA_TLS_KEY", settings.tls_key, "both KAFKA_TLS_CERT and this")
        settings.client()
        return settings

    def password(self) -> str:
        """The password of SASL. Raises SettingError."""
        return _read("KAFKA_SASL_PASSWORD_FILE", self.sasl_password_file).strip()

    def client(self) -> dict[str, Any]:
        """The options of every client of kafka-python. Raises SettingError."""
        config: dict[str, Any] = {
            "bootstrap_servers": [one.strip() for one in self.bootstrap.split(",") if one.strip()],
            "client_id": "sluice",
            "security_protocol": self.security_protocol,
            # With the default of 30 s, a broker that came back would go unnoticed for as long.
            "reconnect_backoff_max_ms": 2000,
        }
        if self.security_protocol.endswith("SSL"):
            config["ssl_context"] = self._tls()
        if self.security_protocol.startswith("SASL"):
            config |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.password(),
            }
        return config

    def _tls(self) -> ssl.SSLContext:
        for variable, path in (
            ("KAFKA_TLS_CA", self.tls_ca),
            ("KAFKA_TLS_CERT", self.tls_certificate),
            ("KAFKA_TLS_KEY", self.tls_key),
        ):
            if path:
                _read(variable, path)
        try:
            context = ssl.create_default_context(cafile=self.tls_ca or None)
            context.check_hostname = self.tls_check_hostname
            if self.tls_certificate:
                context.load_cert_chain(self.tls_certificate, self.tls_key)
        except ssl.SSLError as error:
            files = f"{self.tls_ca} {self.tls_certificate} {self.tls_key}"
            raise SettingError("KAFKA_TLS_CA", files, f"PEM files ({error.reason})") from error
        return context


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(variable, path, "a text file that can be read") from error
