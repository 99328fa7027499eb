"""`make up`: the same world as the demo's, left running, with what a newcomer needs to play with it. Ctrl-C stops all of it."""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from sandbox import fakes
from sandbox.children import PROJECT
from sandbox.product import Product
from sandbox.world import World

FAKES = {"seed": 1} | {name: {"latency_ms": 80} for name in fakes.names()}
FEEDBACK = {"speed": 600.0}  # ten minutes pass in a second: who opens a mail does so within the minute, mostly
EXAMPLE = {
    "id": "hello-1",
    "type": "welcome-email",
    "recipient": {"email": "ada@example.com", "name": "Ada Lovelace"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Start everything, say where it is, wait for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.up", description="A whole world on this machine, until Ctrl-C.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=PROJECT / ".world")
    parser.add_argument("--retry-delay", default="5", help="EMAIL_RETRY_DELAY_SECONDS")
    arguments = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with World(arguments.folder, esp_options=FAKES, feedback=FEEDBACK) as world:
        product = Product(world, arguments.workers, {"EMAIL_RETRY_DELAY_SECONDS": arguments.retry_delay})
        product.prepare()
        product.start()
        print(_words(product, _describe(product)), flush=True)
        while not stop.wait(0.5) and product.supervisor.is_running():
            pass
        print("\nstopping: what is in hand is finished first", flush=True)
        (world.folder / "up.json").unlink(missing_ok=True)
        return product.stop()


def _describe(product: Product) -> dict[str, str]:
    """Where everything is, also as JSON in up.json and as settings in up.env for manage.py."""
    world = product.world
    port = json.loads((product.state_dir / "exporter.json").read_text())["port"]
    addresses = {
        "inbox": world.inbox_address,
        "metrics": f"http://127.0.0.1:{port}/metrics",
        "health": f"http://127.0.0.1:{port}/health",
        "kafka": world.bootstrap_servers,
        "postgres": f"127.0.0.1:{world.postgres.port}",
        "redis": world.redis.url,
        "settings": str(world.folder / "up.env"),
    }
    (world.folder / "up.json").write_text(json.dumps(addresses, indent=1) + "\n")
    settings = world.folder / "up.env"
    settings.touch(0o600)
    settings.write_text("".join(f"{name}={value}\n" for name, value in world.environment().items()))
    return addresses


def _words(product: Product, addresses: dict[str, str]) -> str:
    folder = product.world.folder
    lines = [f"  {name:<9} {address}" for name, address in addresses.items()]
    job = json.dumps(EXAMPLE | {"data": {"name": "Ada"}})
    return "\n".join(
        [
            "\nthe world is up:",
            *lines,
            f"\n  the same as JSON: {folder / 'up.json'}; the log of the product: {product.supervisor.log}",
            "\nsend a job by hand (id, type, recipient, data; every id is sent once):",
            f"  {sys.executable} -m sandbox.produce '{job}'",
            "\nask the product:",
            f"  {sys.executable} manage.py --env-file {folder / 'up.env'} check",
            f"  {sys.executable} manage.py --env-file {folder / 'up.env'} explain {EXAMPLE['id']}",
            "\nCtrl-C stops all of it.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
