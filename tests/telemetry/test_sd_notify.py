"""systemd's notifications, received by a socket of the test's own."""

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry.sd_notify import Notifier, forget, from_environment


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        receiver.settimeout(5)
        yield address, receiver


def test_each_message_says_what_systemd_expects(systemd: tuple[str, socket.socket]) -> None:
    address, receiver = systemd
    notifier = Notifier(address, watchdog_s=10)

    def received() -> str:
        return receiver.recv(4096).decode()

    assert notifier.ready("8 workers") and received() == "READY=1\nSTATUS=8 workers"
    assert notifier.status("7 of 8 workers up") and received() == "STATUS=7 of 8 workers up"
    assert notifier.watchdog() and received() == "WATCHDOG=1"
    assert notifier.reloading(monotonic_ns=5_000_123_456) and received() == "RELOADING=1\nMONOTONIC_USEC=5000123"
    assert notifier.stopping("draining") and received() == "STOPPING=1\nSTATUS=draining"
    assert notifier.extend_timeout(1.5) and received() == "EXTEND_TIMEOUT_USEC=1500000"


def test_a_status_cannot_smuggle_in_another_variable(systemd: tuple[str, socket.socket]) -> None:
    address, receiver = systemd
    Notifier(address).status("fine\nMAINPID=1")
    assert receiver.recv(4096).decode() == "STATUS=fine MAINPID=1"


def test_without_systemd_nothing_is_sent_and_nothing_fails() -> None:
    notifier = from_environment({})
    assert not notifier.ready() and not notifier.watchdog() and notifier.watchdog_interval_s is None
    assert not Notifier("/nowhere/notify").ready()
    assert not from_environment({"NOTIFY_SOCKET": "vsock:2:1234"}).ready()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked_by_the_process_it_watches(environ: dict[str, str], expected: float | None) -> None:
    assert from_environment(environ).watchdog_interval_s == expected


def test_children_inherit_nothing_to_speak_with() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/bin"}
    forget(environ)
    assert environ == {"PATH": "/bin"}
