"""Each benchmark runs to its table, in a size that measures nothing: what it says about speed is no matter of a test."""

import subprocess
import sys

import pytest

from sandbox.children import PROJECT
from sandbox.kafka_jars import missing_programs
from tests.conftest import refuse

LIMIT_S = 150
MOCK = ("--kafka", "mock")


def run(module: str, *options: str) -> str:
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
@pytest.mark.timeout(LIMIT_S + 30)
@pytest.mark.parametrize(
    ("module", "options", "row"),
    [
        ("bench.render", ("--rounds", "1"), "geometric mean"),
        ("bench.pipeline", ("--emails", "400", "--batch", "50", *MOCK), "a worker, whole"),
        ("bench.webhooks", ("--emails", "200", *MOCK), "the worker, CPU µs per event"),
        ("bench.webhooks", ("--emails", "250", "--esps", "sendgrid,postmark,sparkpost,socketlabs,ses", "--by-esp", *MOCK), "ses  "),
        ("bench.providers", ("--emails", "300", "--workers", "2", "--only", "ses", *MOCK), "ses"),
    ],
)
def test_it_ends_with_its_table(module: str, options: tuple[str, ...], row: str) -> None:
    assert f"\n{row}" in run(module, *options)


@pytest.mark.integration
@pytest.mark.timeout(LIMIT_S + 30)
def test_takeover_ends_with_its_table() -> None:
    if missing := missing_programs():
        refuse(f"Apache Kafka needs {' and '.join(missing)}")
    assert "it has read its first message" in run("bench.takeover", "--kills", "2")
