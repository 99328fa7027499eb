"""Send one job by hand into the world that `make up` runs: `python -m sandbox.produce '{"id": ...}' [--topic email-jobs-high]`."""

import argparse
import json
import sys
from pathlib import Path

from confluent_kafka import Producer

from sandbox.children import PROJECT


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.produce", description=__doc__)
    parser.add_argument("value", help="the record's value, or @FILE")
    parser.add_argument("--topic", default="email-jobs")
    parser.add_argument("--folder", type=Path, default=PROJECT / ".world")
    arguments = parser.parse_args()
    where = arguments.folder / "up.json"
    if not where.exists():
        print(f"{where} is not there: run `make up` in another terminal first", file=sys.stderr)
        return 1
    value = Path(arguments.value[1:]).read_bytes() if arguments.value.startswith("@") else arguments.value.encode()
    producer = Producer({"bootstrap.servers": json.loads(where.read_text())["kafka"], "message.timeout.ms": 5000})
    producer.produce(arguments.topic, value)
    left = producer.flush(6)
    print(
        "the broker does not answer: is the world still up?" if left else f"{len(value)} bytes are in {arguments.topic}; look at the inbox"
    )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
