"""Intake tests share the session's mock cluster; each test has topics and groups of its own."""

import pytest

from sandbox.kafka_mock import KafkaMock


@pytest.fixture
def cluster(kafka_mock: KafkaMock) -> KafkaMock:
    return kafka_mock
