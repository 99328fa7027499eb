"""librdkafka's mock cluster through ctypes: the shared library inside the confluent-kafka wheel exports it.

It serves real clients of other processes over TCP and can inject faults. Its limits (2.16.0, measured 2026-11): about 5 MB kept
per partition, no static members, everything forgotten on exit. For development and quick tests, never for production.
Signatures: src/rdkafka_mock.h of librdkafka. Errors are librdkafka's numbers, as in confluent_kafka.KafkaError.
"""

import ctypes
import importlib.util
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_void_p, create_string_buffer
from enum import IntEnum
from pathlib import Path

PRODUCER = 0
FUNCTIONS: dict[str, tuple[type | None, list[type]]] = {
    "rd_kafka_conf_new": (c_void_p, []),
    "rd_kafka_conf_set": (c_int, [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]),
    "rd_kafka_new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
    "rd_kafka_mock_cluster_new": (c_void_p, [c_void_p, c_int]),
    "rd_kafka_mock_cluster_bootstraps": (c_char_p, [c_void_p]),
    "rd_kafka_mock_topic_create": (c_int, [c_void_p, c_char_p, c_int, c_int]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_down": (c_int, [c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (c_int, [c_void_p, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_rtt": (c_int, [c_void_p, ctypes.c_int32, c_int]),
    "rd_kafka_mock_push_request_errors_array": (None, [c_void_p, ctypes.c_int16, c_size_t, POINTER(c_int)]),
    "rd_kafka_mock_clear_request_errors": (None, [c_void_p, ctypes.c_int16]),
}


class Api(IntEnum):
    """Kafka's request numbers, for errors to be put before their answers."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14


class MockCluster:
    """A cluster of `brokers` brokers, numbered from 1, inside this process."""

    def __init__(self, brokers: int = 1):
        self._library = load_library()
        self._cluster = c_void_p(self._library.rd_kafka_mock_cluster_new(new_client(self._library), brokers))
        if not self._cluster:
            raise OSError("librdkafka could not make a mock cluster")

    def bootstrap_servers(self) -> str:
        """host:port of every broker, comma-separated."""
        servers: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return servers.decode()

    def create_topic(self, name: str, partitions: int) -> None:
        self._check(self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1))

    def delay_first_rebalance(self, delay_ms: int) -> None:
        """How long a new group waits for more members before it hands out partitions."""
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, delay_ms)

    def set_down(self, broker: int) -> None:
        """Close its connections and refuse new ones; its data stays."""
        self._check(self._library.rd_kafka_mock_broker_set_down(self._cluster, broker))

    def set_up(self, broker: int) -> None:
        self._check(self._library.rd_kafka_mock_broker_set_up(self._cluster, broker))

    def set_rtt(self, broker: int, rtt_ms: int) -> None:
        """Answer every request so much later."""
        self._check(self._library.rd_kafka_mock_broker_set_rtt(self._cluster, broker, rtt_ms))

    def push_errors(self, api: int, errors: Sequence[int]) -> None:
        """Answer the next requests of that kind with these errors, one each."""
        array = (c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, api, len(errors), array)

    def clear_errors(self, api: int) -> None:
        """Forget the errors that are still to be answered."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, api)

    def _check(self, error: int) -> None:
        if error:
            raise ValueError(f"librdkafka refused with error {error}")


def find_library() -> Path:
    """The library that the wheel brought along; raises FileNotFoundError where there is none (a build from source)."""
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("confluent-kafka is not installed: pip install -r requirements.txt")
    found = sorted((Path(spec.origin).parent.parent / "confluent_kafka.libs").glob("librdkafka*.so*"))
    if not found:
        raise FileNotFoundError("confluent-kafka is not installed from its wheel, so librdkafka's mock cluster is missing")
    return found[0]


def load_library() -> ctypes.CDLL:
    """librdkafka with the types of the functions that are used here."""
    library = ctypes.CDLL(str(find_library()))
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def new_client(library: ctypes.CDLL) -> c_void_p:
    """The client handle that a mock cluster hangs on; it never connects anywhere. Lives as long as the process."""
    problem = create_string_buffer(512)
    conf = c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(conf, b"log_level", b"3", problem, len(problem))
    client = c_void_p(library.rd_kafka_new(PRODUCER, conf, problem, len(problem)))
    if not client:
        raise OSError(f"librdkafka: {problem.value.decode(errors='replace')}")
    return client
