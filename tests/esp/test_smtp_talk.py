"""Who speaks when, word by word: a server that says what it is told to, and all that the client said to it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from esp.exchange import open_exchange
from esp.smtp import Esp
from mail.account import Account
from mail.message import Address
from mail.outcome import Blame, NoReply, Outcome, Request, Verdict
from tests.esp.messages import message

MAIL, RCPT, DATA = b"250 2.1.0 Ok\r\n", b"250 2.1.5 Ok\r\n", b"354 Go on\r\n"
NOBODY = b"550 5.1.1 User unknown\r\n"


class Server:
    """Greets, offers what it is told to, then answers each piece that it reads with the next reply; keeps the pieces."""

    def __init__(self, offers: bytes, *replies: bytes):
        self.heard: list[bytes] = []
        self.is_over = False
        self._replies = list(replies)
        self._greeting = b"250-relay.test\r\n" + offers + b"250 SIZE 1000000\r\n"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(5)  # whoever does not come any more
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def _talk(self) -> None:
        live, _ = self._listener.accept()
        live.settimeout(10)
        with live, contextlib.suppress(OSError):  # the client hangs up in the end
            live.sendall(b"220 relay.test\r\n")
            live.recv(65536)
            live.sendall(self._greeting)
            while piece := live.recv(1 << 20):
                self.heard.append(piece)
                live.sendall(self._replies.pop(0) if self._replies else b"250 Ok\r\n")
        self.is_over = True

    def close(self) -> None:
        self._thread.join(10)
        self._listener.close()
        assert self.is_over


class Brief(Server):
    """Takes one mail a connection, hears the first command of the next, says its `parting` word and hangs up."""

    def __init__(self, offers: bytes, parting: bytes, connections: int):
        self._parting = parting
        self._connections = connections
        super().__init__(offers)

    def _talk(self) -> None:
        offers = self._greeting
        taken = [MAIL + RCPT + DATA] if b"PIPELINING" in offers else [MAIL, RCPT, DATA]
        for _ in range(self._connections):
            with contextlib.suppress(OSError):  # it is hung up on, or nobody comes
                live, _ = self._listener.accept()
                with live:
                    live.settimeout(10)
                    for reply in (b"220 relay.test\r\n", offers, *taken, b"250 2.0.0 Ok\r\n"):
                        live.sendall(reply)
                        self.heard.append(live.recv(1 << 20))
                    live.sendall(self._parting)
        self.is_over = True


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(offers: bytes, *replies: bytes) -> Server:
        servers.append(Server(offers, *replies))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def send(server: Server, **changes: object) -> tuple[Outcome, int]:
    """The outcome of one mail, and how many requests have left."""
    (outcome,), left = send_all(server, 1, **changes)
    return outcome, left


def send_all(server: Server, count: int, **changes: object) -> tuple[list[Outcome], int]:
    """The outcomes of so many mails, one after another on one line, and how many requests have left."""
    esp = Esp(Account("smtp", 0, f"smtp://127.0.0.1:{server.port}", {"encryption": "none"}))
    left: list[Request] = []
    with contextlib.closing(open_exchange(1, 2.0, 10.0)) as exchange:
        requests = esp.prepare([message(**changes) for _ in range(count)])
        answers = list(exchange.send_all(requests, lambda request: bool(left.append(request)) or True))
    return [outcome for request, reply in answers for outcome in esp.interpret(request, reply)], len(left)


def test_where_the_server_reads_on_the_envelope_is_one_piece(start: Callable[..., Server]) -> None:
    server = start(b"250-PIPELINING\r\n", MAIL + RCPT + RCPT + DATA, b"250 2.0.0 Ok\r\n")
    outcome, left = send(server, cc=(Address("bob@b.test"),))
    assert (outcome.verdict, left) == (Verdict.ACCEPTED, 1)
    envelope, content = server.heard[:2]
    assert [line.split(b":")[0] for line in envelope.splitlines()] == [b"MAIL FROM", b"RCPT TO", b"RCPT TO", b"DATA"]
    assert content.endswith(b"\r\n.\r\n")


def test_where_it_does_not_each_command_waits_for_the_reply_before_it(start: Callable[..., Server]) -> None:
    server = start(b"", MAIL, RCPT, DATA, b"250 2.0.0 Ok\r\n")
    assert send(server)[0].verdict is Verdict.ACCEPTED
    assert [piece[:4] for piece in server.heard[:3]] == [b"MAIL", b"RCPT", b"DATA"]
    assert server.heard[3].endswith(b"\r\n.\r\n")


@pytest.mark.parametrize("offers", [b"250-PIPELINING\r\n", b""])
def test_a_no_to_the_recipient_is_heard_out_and_the_connection_serves_again(start: Callable[..., Server], offers: bytes) -> None:
    together = [MAIL + NOBODY + b"503 5.5.1 No valid recipients\r\n"] if offers else [MAIL, NOBODY]
    server = start(offers, *together)
    outcome, left = send(server)
    assert (outcome.verdict, outcome.blame, left) == (Verdict.REJECTED, Blame.RECIPIENT, 0)
    assert server.heard[len(together)] == b"RSET\r\n"


@pytest.mark.parametrize("answers", [MAIL + NOBODY + RCPT + DATA, MAIL + NOBODY + NOBODY + DATA])
def test_a_server_that_waits_for_a_content_after_its_no_gets_none(start: Callable[..., Server], answers: bytes) -> None:
    server = start(b"250-PIPELINING\r\n", answers)
    outcome, left = send(server, cc=(Address("bob@b.test"),))
    assert (outcome.verdict, outcome.blame, left) == (Verdict.REJECTED, Blame.RECIPIENT, 0)
    server.close()
    assert len(server.heard) == 1, "it was hung up on: a dot would be an empty mail to the other recipient"


def test_a_server_that_closes_down_within_the_envelope_has_taken_nothing(start: Callable[..., Server]) -> None:
    server = start(b"250-PIPELINING\r\n", b"421 4.3.2 Closing down\r\n421 4.3.2 Closing down\r\n421 4.3.2 Closing down\r\n")
    outcome, left = send(server)
    assert (outcome.verdict, left) == (Verdict.UNAVAILABLE, 0)


@pytest.mark.expect_errors
@pytest.mark.parametrize("offers", [b"250-PIPELINING\r\n", b""])
def test_a_line_end_in_an_address_sends_nothing(start: Callable[..., Server], offers: bytes) -> None:
    server = start(offers)
    esp = Esp(Account("smtp", 0, f"smtp://127.0.0.1:{server.port}", {"encryption": "none"}))
    (request,) = esp.prepare([message(sender=Address("me@brand.test>\r\nRCPT TO:<x@y.test"))])
    exchange = open_exchange(1, 2.0, 10.0)
    ((_, reply),) = exchange.send_all([request], lambda r: True)
    exchange.close()
    assert isinstance(reply, NoReply) and not reply.has_left
    assert not any(b"RCPT" in piece for piece in server.heard)


@pytest.mark.parametrize("offers", [b"250-PIPELINING\r\n", b""])
@pytest.mark.parametrize("parting", [b"", b"421 4.7.0 Too many messages on this connection\r\n"])
def test_who_hangs_up_before_a_mail_is_begun_gets_it_over_a_fresh_connection(offers: bytes, parting: bytes) -> None:
    with contextlib.closing(Brief(offers, parting, connections=3)) as server:
        outcomes, left = send_all(server, 3)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.ACCEPTED] * 3
    assert left == 3


def test_who_hangs_up_on_a_fresh_connection_is_not_tried_again(start: Callable[..., Server]) -> None:
    server = start(b"", b"421 4.7.0 Too many messages\r\n")
    outcome, left = send(server)
    assert (outcome.verdict, left) == (Verdict.THROTTLED, 0)
    server.close()
    assert len(server.heard) == 1


def test_who_hangs_up_once_a_mail_is_begun_is_not_tried_again(start: Callable[..., Server]) -> None:
    closing = b"421 4.3.2 Closing down\r\n"
    server = start(b"", MAIL, RCPT, DATA, b"250 2.0.0 Ok\r\n", MAIL, closing)
    outcomes, left = send_all(server, 2)
    assert ([outcome.verdict for outcome in outcomes], left) == ([Verdict.ACCEPTED, Verdict.UNAVAILABLE], 1)


def test_a_server_that_announces_how_many_mails_it_takes_is_not_asked_for_more() -> None:
    with contextlib.closing(Brief(b"250-LIMITS MAILMAX=1\r\n", b"421 Closing\r\n", connections=3)) as server:
        outcomes, _ = send_all(server, 3)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.ACCEPTED] * 3
    assert sum(piece.startswith(b"MAIL") for piece in server.heard) == 3


def test_more_recipients_than_a_server_announces_go_elsewhere_before_a_word_is_said(start: Callable[..., Server]) -> None:
    server = start(b"250-LIMITS RCPTMAX=2 MAILMAX=50\r\n", MAIL, RCPT, RCPT, DATA, b"250 2.0.0 Ok\r\n")
    outcomes, left = send_all(server, 1, cc=(Address("b@b.test"), Address("c@c.test")))
    assert ([outcome.verdict for outcome in outcomes], left) == ([Verdict.UNSUPPORTED], 0)
    server.close()
    assert not any(piece.startswith(b"MAIL") for piece in server.heard)
