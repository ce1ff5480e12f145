"""A real single-node Apache Kafka broker (KRaft) on loopback, with and without TLS and logins.

Started by the tests that need it, and by hand with ``make kafka``. It is ended by its own process id; whoever
started it may also kill and start it again over the same data.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.services.jars import fetch_jars
from tests.services.java import find_java
from tests.support.ports import free_ports

USER, PASSWORD = "hub", "open sesame"
_READY = "Kafka Server started"
_QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true")
_TOOLS = {
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-console-producer.sh": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
}
_LISTENERS = {"PLAIN": "PLAINTEXT", "LOGIN": "SASL_PLAINTEXT", "TLS": "SSL", "CONTROLLER": "PLAINTEXT"}


class KafkaBroker:
    """One broker over a folder; its ports stay the same over restarts."""

    def __init__(self, folder: Path, *, port: int | None = None, heap: str = "384m") -> None:
        self.folder = folder
        self._heap = heap
        # with a port of its own it may be started again over its data, which names the others too
        first = free_ports(len(_LISTENERS)) if port is None else port
        self._ports = {name: first + number for number, name in enumerate(_LISTENERS)}
        self._log = folder / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.ca_file = folder / "ca.pem"

    @property
    def bootstrap(self) -> str:
        """Where everybody may come in."""
        return self._address("PLAIN")

    @property
    def with_login(self) -> str:
        """Where a login is asked for: PLAIN or SCRAM."""
        return self._address("LOGIN")

    @property
    def with_tls(self) -> str:
        """Where TLS is spoken, with a certificate that ``ca_file`` vouches for."""
        return self._address("TLS")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _address(self, listener: str) -> str:
        return f"127.0.0.1:{self._ports[listener]}"

    # life

    def start(self, *, timeout: float = 90) -> None:
        """Start it and return once it answers."""
        if not (self.folder / "data" / "meta.properties").is_file():
            self._format()
        heap = (f"-Xmx{self._heap}", "-Xms128m", "-XX:+ExitOnOutOfMemoryError")
        log_settings = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.xml'}"
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    find_java(),
                    *heap,
                    *_QUICK,
                    log_settings,
                    "-cp",
                    self._jars,
                    "kafka.Kafka",
                    str(self._properties),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # a terminal's Ctrl-C is for whoever started it, who then ends it in order
                start_new_session=True,
            )
        self._wait_until_ready(begin, timeout)

    def _wait_until_ready(self, begin: int, timeout: float) -> None:
        assert self._process is not None
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with self._log.open("rb") as log:
                log.seek(begin)
                said = log.read().decode(errors="replace")
            if _READY in said and _answers(self._ports["PLAIN"]):
                return
            if self._process.poll() is not None:
                break
            # the log is the only thing it says, and nobody tells of a file's growth
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"the broker did not start:\n{said[-4000:]}")

    def kill(self) -> None:
        """kill -9; its data stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self) -> None:
        """Return when it has ended."""
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """End it in order; kill it where that takes too long."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    # hands of others

    def tool(
        self, name: str, *arguments: str, input: bytes | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one of the broker's own console tools, by its class."""
        return subprocess.run(
            [find_java(), "-Xmx128m", *_QUICK, "-cp", self._jars, name, *arguments],
            input=input,
            capture_output=True,
            check=True,
            timeout=timeout,
        )

    def produce(self, topic: str, lines: Sequence[str], *properties: str) -> None:
        """Write lines to a topic with the console producer; ``properties`` as that tool takes them."""
        given = [text for one in properties for text in ("--reader-property", one)]
        self.tool(
            _TOOLS["kafka-console-producer.sh"],
            *("--bootstrap-server", self.bootstrap, "--topic", topic, *given),
            input="".join(f"{line}\n" for line in lines).encode(),
        )

    def create(self, *topics: str, partitions: int = 1) -> None:
        """Topics that are not there yet."""
        for topic in topics:
            where = ("--bootstrap-server", self.bootstrap, "--partitions", str(partitions))
            self.tool(_TOOLS["kafka-topics.sh"], *where, "--create", "--if-not-exists", "--topic", topic)

    def write_tools(self, folder: Path) -> None:
        """The console tools under the names that a distribution gives them."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, tool in _TOOLS.items():
            command = shlex.join([find_java(), "-Xmx128m", *_QUICK, "-cp", self._jars, tool])
            (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (folder / name).chmod(0o755)

    # files

    @property
    def _jars(self) -> str:
        return f"{fetch_jars()}/*"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _format(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self._write_certificate()
        (self.folder / "log4j2.xml").write_text(_LOG4J)
        self._properties.write_text(self._settings())
        format = ["format", "--standalone", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(self._properties)]
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            format += ["--add-scram", f'{mechanism}=[name={USER},password="{PASSWORD}"]']
        try:
            self.tool("kafka.tools.StorageTool", *format)
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"the broker's storage: {error.stdout!r} {error.stderr!r}") from error

    def _write_certificate(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        issued = authority.issue_cert("127.0.0.1", "localhost")
        # the broker reads PKCS 8 alone
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "server.pem").write_bytes(
            text + b"".join(one.bytes() for one in issued.cert_chain_pems)
        )

    def _settings(self) -> str:
        listeners = ",".join(f"{name}://{self._address(name)}" for name in _LISTENERS)
        protocols = ",".join(f"{name}:{protocol}" for name, protocol in _LISTENERS.items())
        return _SERVER_PROPERTIES.format(
            listeners=listeners,
            protocols=protocols,
            controller=self._address("CONTROLLER"),
            folder=self.folder,
            user=USER,
            password=PASSWORD,
        )


_SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={controller}
controller.listener.names=CONTROLLER
listeners={listeners}
advertised.listeners={listeners}
inter.broker.listener.name=PLAIN
listener.security.protocol.map={protocols}
listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.login.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location={folder}/server.pem
log.dirs={folder}/data
auto.create.topics.enable=false
delete.topic.enable=true
file.delete.delay.ms=100
default.replication.factor=1
min.insync.replicas=1
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
log.segment.bytes=67108864
log.retention.hours=24
"""

_LOG4J = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="ERROR" shutdownHook="disable">
  <Appenders><Console name="out" target="SYSTEM_OUT"><PatternLayout pattern="[%d] %p %m (%c)%n"/></Console></Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
    <Logger name="kafka.server" level="INFO"/>
    <Logger name="org.apache.kafka.server" level="WARN"/>
  </Loggers>
</Configuration>
"""


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
