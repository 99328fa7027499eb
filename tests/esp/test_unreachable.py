"""An ESP that cannot be reached has taken nothing: whichever ESP it is, whatever stands in the way, after one try."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from esp import base
from esp.exchange import open_exchange
from mail.account import Account
from mail.message import Message
from mail.outcome import Blame, Verdict
from tests.esp.messages import message
from tests.esp.relay import certificate
from tests.esp.test_contract import STANZAS, account

DEADLINE_S = 1.0


class Door:
    """Listens, counts who comes, and does one thing to them."""

    def __init__(self, welcome: Callable[[socket.socket], object]):
        self.visitors = 0
        self._welcome = welcome
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                live, _ = self._listener.accept()
            except OSError:
                return
            self.visitors += 1
            live.settimeout(5)
            with live:
                try:
                    self._welcome(live)
                except OSError:
                    pass  # they turned away, as they should


@pytest.fixture
def open_door() -> Iterator[Callable[..., Door]]:
    doors: list[Door] = []

    def make(welcome: Callable[[socket.socket], object]) -> Door:
        doors.append(Door(welcome))
        return doors[-1]

    yield make
    for door in doors:
        door.close()


def at(provider: str, place: str) -> Account:
    """An account whose ESP is there, behind TLS."""
    known = account(provider)
    scheme = known.base_url.partition(":")[0]
    return msgspec.structs.replace(known, base_url=f"{scheme}://{place}", credentials=known.credentials | {"encryption": "tls"})


def assert_nothing_was_taken(esp: base.Esp) -> None:
    """One try each, of which nothing has left."""
    left: list[object] = []
    mails: list[Message] = [message()]
    with closing(open_exchange(1, 0.5, DEADLINE_S)) as exchange:
        answers = list(exchange.send_all(esp.prepare(mails), lambda request: bool(left.append(request)) or True))
    outcomes = [outcome for request, reply in answers for outcome in esp.interpret(request, reply)]
    assert [(o.verdict, o.blame) for o in outcomes] == [(Verdict.UNAVAILABLE, Blame.NETWORK)]
    assert left == []


@pytest.fixture(params=sorted(STANZAS))
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_name_that_nobody_knows(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def no_such_name(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    assert_nothing_was_taken(base.load(at(provider, "esp.invalid:443")))
    assert asked == ["esp.invalid"]


def test_a_port_at_which_nobody_listens(provider: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert_nothing_was_taken(base.load(at(provider, f"127.0.0.1:{port}")))


def test_a_certificate_that_nobody_vouches_for(provider: str, open_door: Callable[..., Door], tmp_path: Path) -> None:
    tls, _ = certificate(tmp_path)
    door = open_door(lambda live: tls.wrap_socket(live, server_side=True).recv(1))
    assert_nothing_was_taken(base.load(at(provider, f"127.0.0.1:{door.port}")))
    assert door.visitors == 1


def test_somebody_who_does_not_speak_tls(provider: str, open_door: Callable[..., Door]) -> None:
    door = open_door(lambda live: live.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    assert_nothing_was_taken(base.load(at(provider, f"127.0.0.1:{door.port}")))
    assert door.visitors == 1


def test_a_handshake_without_end(provider: str, open_door: Callable[..., Door]) -> None:
    def listen_only(live: socket.socket) -> None:
        while live.recv(65536):
            pass

    door = open_door(listen_only)
    assert_nothing_was_taken(base.load(at(provider, f"127.0.0.1:{door.port}")))
    assert door.visitors == 1
