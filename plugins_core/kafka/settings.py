"""Clusters: how one is reached, by whom, and under which of Kafka's own names that may be said."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from hub.plugin import InvalidInput, Model, did_you_mean

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
DEFAULT = "default"
_JAAS = re.compile(r'\b(username|password)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ADDRESS = re.compile(r"\[?[^\s,\]]+\]?:\d{1,5}\Z")


class Cluster(Model):
    """A Kafka cluster."""

    bootstrap_servers: str = Field(
        min_length=1, description="Where to begin: `host:port`, several with commas between them."
    )
    tls: bool = Field(False, description="Whether TLS is spoken.")
    ca_file: str | None = Field(
        None, description="A file with the certificates to trust, in place of the system's."
    )
    cert_file: str | None = Field(
        None, description="The client's own certificate, where brokers ask for one."
    )
    key_file: str | None = Field(None, description="Its private key, where it is in a file of its own.")
    check_hostname: bool = Field(True, description="Whether the brokers' certificates must name their hosts.")
    sasl_mechanism: Mechanism | None = Field(None, description="How to log in; nobody does unless set.")
    username: str | None = Field(None, description="The user name; `sasl.username` to some.")
    password: SecretStr | None = Field(None, description="The password; better kept as a secret.")
    password_secret: str | None = Field(None, description="The name of the secret that is the password.")
    properties: dict[str, str] = Field(
        {}, description="More, by Kafka's own names: `session.timeout.ms`, `compression.type`."
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        for one in value.split(","):
            if "{{" not in value and not _ADDRESS.match(one.strip()):
                raise ValueError(
                    f'"{one.strip()[:80]}" is no address: write host:port, 127.0.0.1:9092 for one'
                )
        return value

    @field_validator("properties")
    @classmethod
    def _are_known(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            _tuned(name, text)
        return value

    @model_validator(mode="after")
    def _logs_in_whole(self) -> Cluster:
        has_password = self.password is not None or self.password_secret is not None
        if self.sasl_mechanism is not None and not (self.username and has_password):
            raise ValueError("saslMechanism needs username and password (or passwordSecret)")
        if self.sasl_mechanism is None and (self.username or has_password):
            raise ValueError(
                "username and password need saslMechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
            )
        return self


class KafkaSettings(Model):
    """The Kafka clusters, by name."""

    clusters: dict[str, Cluster] = Field({}, description="By the name that `cluster:` has in flows.")


class Connection:
    """A cluster with everything that is needed to reach it; equal ones share a producer."""

    def __init__(self, name: str, cluster: Cluster, password: str | None) -> None:
        self.name = name
        self.servers = [one.strip() for one in cluster.bootstrap_servers.split(",")]
        self._cluster = cluster
        self._password = password

    @property
    def text(self) -> str:
        """How messages name it."""
        return f'cluster "{self.name}" ({",".join(self.servers)})'

    @property
    def fingerprint(self) -> str:
        """Differs wherever anything does."""
        return repr((self.servers, self._cluster.model_dump(exclude={"password"}), self._password))

    @property
    def logs_in(self) -> bool:
        return self._cluster.sasl_mechanism is not None

    @property
    def uses_tls(self) -> bool:
        return self._cluster.tls

    def arguments(self) -> dict[str, Any]:
        """What every client is opened with. Raises ``InvalidInput`` for a file that cannot be used."""
        given: dict[str, Any] = {"bootstrap_servers": self.servers, "security_protocol": self._protocol()}
        if self._cluster.tls:
            given["ssl_context"] = self._context()
        if self._cluster.sasl_mechanism is not None:
            given |= {
                "sasl_mechanism": self._cluster.sasl_mechanism,
                "sasl_plain_username": self._cluster.username,
                "sasl_plain_password": self._password,
            }
        return given

    def tuning(self, kind: Literal["any", "consumer", "producer"]) -> dict[str, Any]:
        """What the properties say to one kind of client."""
        found = {}
        for name, text in self._cluster.properties.items():
            wanted, argument, value = _tuned(name, text)
            if wanted == kind:
                found[argument] = value
        return found

    def _protocol(self) -> str:
        return ("SASL_" if self.logs_in else "") + ("SSL" if self._cluster.tls else "PLAINTEXT")

    def _context(self) -> ssl.SSLContext:
        cluster = self._cluster
        try:
            context = ssl.create_default_context(cafile=cluster.ca_file)
            if cluster.cert_file is not None:
                context.load_cert_chain(cluster.cert_file, cluster.key_file)
        except (OSError, ssl.SSLError) as error:
            files = [one for one in (cluster.ca_file, cluster.cert_file, cluster.key_file) if one]
            missing = [one for one in files if not Path(one).is_file()]
            reason = f"{missing[0]} is not there" if missing else str(error)
            raise InvalidInput(f"{self.text}: TLS cannot be set up: {reason}") from error
        context.check_hostname = cluster.check_hostname
        return context


async def connection_to(
    name: str, properties: Mapping[str, str] | None, settings: Any, secret: Callable[[str], Any]
) -> Connection:
    """How a cluster of the settings is reached, or the one that a flow's own ``properties`` say.

    ``secret`` gives a secret's value. Raises ``InvalidInput``, ``NotFound``.
    """
    cluster = _of_properties(properties) if properties else _of_settings(name, settings)
    password = cluster.password.get_secret_value() if cluster.password is not None else None
    if cluster.password_secret is not None:
        password = await secret(cluster.password_secret)
    return Connection("inline" if properties else name, cluster, password)


def _of_settings(name: str, settings: Any) -> Cluster:
    clusters: Mapping[str, Cluster] = settings.clusters if settings is not None else {}
    if name not in clusters:
        near = did_you_mean(name, list(clusters))
        hint = (
            near
            or f"write plugins: {{kafka: {{clusters: {{{name}: {{bootstrapServers: host:9092}}}}}}}} in hub.yaml"
        )
        raise InvalidInput(f'no Kafka cluster "{name}" in the settings', hint=hint)
    return clusters[name]


# -- Kafka's own names

_SECURITY = {
    "PLAINTEXT": (False, False),
    "SSL": (True, False),
    "SASL_PLAINTEXT": (False, True),
    "SASL_SSL": (True, True),
}
_OF_CLUSTER = {
    "bootstrap.servers": "bootstrap_servers",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.username": "username",
    "sasl.password": "password",
    "ssl.ca.location": "ca_file",
    "ssl.truststore.location": "ca_file",
    "ssl.certificate.location": "cert_file",
    "ssl.keystore.location": "cert_file",
    "ssl.key.location": "key_file",
}
_APART = (
    "security.protocol",
    "sasl.jaas.config",
    "ssl.endpoint.identification.algorithm",
    "ssl.truststore.type",
)
_TUNED: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "client.id": ("any", "client_id", str),
    "request.timeout.ms": ("any", "request_timeout_ms", int),
    "metadata.max.age.ms": ("any", "metadata_max_age_ms", int),
    "connections.max.idle.ms": ("any", "connections_max_idle_ms", int),
    "session.timeout.ms": ("consumer", "session_timeout_ms", int),
    "heartbeat.interval.ms": ("consumer", "heartbeat_interval_ms", int),
    "fetch.min.bytes": ("consumer", "fetch_min_bytes", int),
    "fetch.max.bytes": ("consumer", "fetch_max_bytes", int),
    "fetch.max.wait.ms": ("consumer", "fetch_max_wait_ms", int),
    "max.partition.fetch.bytes": ("consumer", "max_partition_fetch_bytes", int),
    "isolation.level": ("consumer", "isolation_level", str),
    "client.rack": ("consumer", "client_rack", str),
    "compression.type": ("producer", "compression_type", str),
    "linger.ms": ("producer", "linger_ms", int),
    "batch.size": ("producer", "max_batch_size", int),
    "max.request.size": ("producer", "max_request_size", int),
}


def _tuned(name: str, text: str) -> tuple[str, str, Any]:
    """Which kind of client a property is for, as which argument. Raises ``ValueError``."""
    if name not in _TUNED:
        known = [*_TUNED, *_OF_CLUSTER, *_APART]
        if name in known:
            raise ValueError(f"{name} has a field of its own here")
        near = did_you_mean(name, known) or f"there are {', '.join(_TUNED)}"
        raise ValueError(f'"{name}" is not known here; {near}')
    kind, argument, reader = _TUNED[name]
    try:
        return kind, argument, reader(text)
    except ValueError:
        raise ValueError(f'{name} is a whole number, got "{text[:40]}"') from None


def _of_properties(properties: Mapping[str, str]) -> Cluster:
    """A cluster as Kafka's own properties describe it. Raises ``InvalidInput``."""
    if "bootstrap.servers" not in properties:
        near = did_you_mean("bootstrap.servers", list(properties))
        raise InvalidInput("properties: bootstrap.servers is required", hint=near)
    given: dict[str, Any] = {"properties": {}}
    for name, text in properties.items():
        if name in _OF_CLUSTER:
            given[_OF_CLUSTER[name]] = text
        elif name not in _APART:
            given["properties"][name] = text
    protocol = properties.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in _SECURITY:
        raise InvalidInput(f'security.protocol is one of {", ".join(_SECURITY)}, got "{protocol[:40]}"')
    given["tls"], logs_in = _SECURITY[protocol]
    if logs_in:
        given.setdefault("sasl_mechanism", "PLAIN")
        given |= dict(_JAAS.findall(properties.get("sasl.jaas.config", "")))
    if "ssl.endpoint.identification.algorithm" in properties:
        given["check_hostname"] = properties["ssl.endpoint.identification.algorithm"].lower() == "https"
    try:
        return Cluster.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        kafkas = next((name for name, field in _OF_CLUSTER.items() if field == where), where)
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidInput(f"properties: {kafkas + ': ' if kafkas else ''}{message}") from error
