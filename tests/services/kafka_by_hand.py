"""``make kafka``: a real broker for use by hand, with the lines that start the first blueprint on it."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path

from tests.services.jars import CACHE
from tests.services.kafka import KafkaBroker

_PORT = 9092
_TOPICS = ("orders", "orders-enriched", "orders-dead", "readings", "intake")


def main() -> None:
    """Run one until Ctrl-C; its data stays in the cache."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = CACHE / "by-hand"
    broker = KafkaBroker(folder, port=_PORT)
    print("starting a broker; the first time its jars are fetched", file=sys.stderr, flush=True)
    try:
        broker.start()
        broker.create(*_TOPICS)
        broker.write_tools(folder / "bin")
        print(lines(broker, folder / "bin"), flush=True)
        broker.wait()
    except KeyboardInterrupt:
        pass
    finally:
        broker.stop()


def lines(broker: KafkaBroker, tools: Path) -> str:
    """What to type next, as it stands."""
    hub = shlex.quote(str(Path(sys.executable).parent / "hub"))
    produce = shlex.quote(str(tools / "kafka-console-producer.sh"))
    consume = shlex.quote(str(tools / "kafka-console-consumer.sh"))
    cluster = f'plugins: {{kafka: {{clusters: {{default: {{bootstrapServers: "{broker.bootstrap}"}}}}}}}}'
    where = f"--bootstrap-server {broker.bootstrap}"
    return (
        f"kafka ready at {broker.bootstrap}; topics: {', '.join(_TOPICS)}\n\n"
        "In an empty folder:\n"
        f"  echo {shlex.quote(cluster)} > hub.yaml\n"
        f"  {hub} blueprints use kafka-enrich\n"
        f"  {hub} serve\n\n"
        "In another shell, in the same folder:\n"
        f'  echo \'{{"id": 7, "customer": "ada", "total": 12.5}}\' | {produce} {where} --topic orders\n'
        f"  {consume} {where} --topic orders-enriched --from-beginning --max-messages 1\n"
        f"  {hub} triggers list\n\n"
        "Ctrl-C ends the broker; its data stays."
    )


if __name__ == "__main__":
    main()
