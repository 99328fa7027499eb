"""The exchange against a server that does what it is told, byte by byte, on loopback."""

import datetime
import gzip
import ipaddress
import socket
import ssl
import struct
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from urllib3.connection import HTTPConnection

from esp.exchange import Exchange
from esp.http import MAX_REPLY_BYTES
from mail.outcome import NoReply, Reply, Request
from tests.waiting import wait_until

Script = Callable[[socket.socket], None]
OK = b"HTTP/1.1 202 Accepted\r\nX-Message-Id: abc\r\nContent-Length: 0\r\n\r\n"
DEADLINE_S = 1.5


class Server:
    """Runs the next script for each connection, each in its own thread; remembers every byte that came."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.listener.getsockname()[1]}"
        self.received: list[bytes] = []
        self.over = threading.Event()
        self._scripts = list(scripts)
        self._tls = tls
        self._threads: list[threading.Thread] = []
        self._live: list[socket.socket] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def request(self, body: bytes = b"{}") -> Request:
        return Request("POST", f"{self.origin}/v3/mail/send", {"Authorization": "Bearer k"}, body)

    def close(self) -> None:
        self.over.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for live in self._live:
            try:
                socket.socket.shutdown(live, socket.SHUT_RDWR)
            except OSError:
                pass  # closed already
        for thread in [self._acceptor, *self._threads]:
            thread.join(5)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                live, _ = self.listener.accept()
            except OSError:
                return
            live.settimeout(5)
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            self._threads.append(threading.Thread(target=self._play, args=(script, live)))
            self._threads[-1].start()

    def _play(self, script: Script, live: socket.socket) -> None:
        try:
            secured = self._tls.wrap_socket(live, server_side=True) if self._tls else live
            self._live.append(secured)
            with secured:
                script(secured)
        except OSError:
            pass  # the client hung up, as some tests want


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*scripts: Script, tls: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(*scripts, tls=tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    made = Exchange(4, 0.4, DEADLINE_S)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_thread_stays_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    wait_until(lambda: set(threading.enumerate()) <= before)


def cut_at_the_deadline(answered: Reply | NoReply) -> bool:
    return isinstance(answered, NoReply) and "deadline" in answered.error


def read_request(live: socket.socket) -> bytes:
    data = bytearray()
    while b"\r\n\r\n" not in data:
        data += live.recv(65536) or hang_up()
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while len(body) < sum(lengths):
        body += live.recv(1 << 20) or hang_up()
    return bytes(head + b"\r\n\r\n" + body)


def hang_up() -> bytes:
    raise ConnectionError("the client is gone")


def answer(*replies: bytes) -> Script:
    def play(live: socket.socket) -> None:
        for reply in replies:
            read_request(live)
            live.sendall(reply)

    return play


def in_turn(*steps: Callable[[socket.socket], object]) -> Script:
    def play(live: socket.socket) -> None:
        for step in steps:
            step(live)

    return play


def drip(head: bytes, piece: bytes, over: threading.Event) -> Script:
    def play(live: socket.socket) -> None:
        read_request(live)
        live.sendall(head)
        while not over.wait(0.02):
            live.sendall(piece)

    return play


def reset(live: socket.socket) -> None:
    live.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    live.close()


def ask(exchange: Exchange, *requests: Request) -> list[Reply | NoReply]:
    answers = dict(enumerate(exchange.send_all(requests, lambda _: True)))
    assert len(answers) == len(requests)
    return [a for _, a in answers.values()]


def nothing_left(answered: Reply | NoReply) -> bool:
    return isinstance(answered, NoReply) and not answered.has_left


def left_in_doubt(answered: Reply | NoReply) -> bool:
    return isinstance(answered, NoReply) and answered.has_left


def test_a_reply_comes_back_whole_with_header_names_in_lower_case(exchange: Exchange, serve: Callable[..., Server]) -> None:
    server = serve(answer(b"HTTP/1.1 400 Bad Request\r\nX-Thing: a\r\nContent-Length: 2\r\n\r\nno"))
    (reply,) = ask(exchange, server.request())
    assert isinstance(reply, Reply)
    assert (reply.status, reply.headers["x-thing"], reply.body) == (400, "a", b"no")


def test_what_is_sent_is_what_was_prepared_and_nothing_from_the_environment(
    exchange: Exchange, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    seen: list[bytes] = []

    def play(live: socket.socket) -> None:
        for _ in range(2):
            seen.append(read_request(live))
            live.sendall(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n"))

    server = serve(play)
    plain = Request("POST", f"{server.origin}/email", {}, b'{"a":1}')
    for _ in range(2):
        assert isinstance(ask(exchange, plain)[0], Reply)
    for sent in seen:
        assert sent.startswith(b"POST /email HTTP/1.1\r\n")
        assert sent.endswith(b'\r\n\r\n{"a":1}')
        assert b"authorization" not in sent.lower()
        assert b"cookie" not in sent.lower()
        assert b"gzip" not in sent.lower()


@pytest.mark.parametrize(("size", "is_one_piece"), [(0, True), (2, True), (64 * 1024, True), (3_000_000, False)])
def test_a_small_request_leaves_in_one_piece(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Server], size: int, is_one_piece: bool
) -> None:
    pieces: list[int] = []
    plain = HTTPConnection.send
    monkeypatch.setattr(HTTPConnection, "send", lambda self, data: (pieces.append(len(data)), plain(self, data))[1])
    server = serve(answer(OK))
    assert isinstance(ask(exchange, server.request(b"a" * size))[0], Reply)
    assert (len(pieces) == 1) == is_one_piece
    assert sum(pieces) > size


def test_connections_are_kept_and_used_again(exchange: Exchange, serve: Callable[..., Server]) -> None:
    server = serve(answer(*[OK] * 20), lambda live: live.close())
    for _ in range(20):
        assert isinstance(ask(exchange, server.request())[0], Reply)


def test_an_answered_request_is_kept_by_nobody(exchange: Exchange, serve: Callable[..., Server]) -> None:
    """A waiting thread that still held its last request would hold a body of megabytes."""

    class Permission:
        def __call__(self, request: Request) -> bool:
            return True

    permission = Permission()
    server = serve(answer(OK))
    assert isinstance(*[reply for _, reply in exchange.send_all([server.request()], permission)], Reply)
    gone = weakref.ref(permission)
    del permission
    wait_until(lambda: gone() is None)


def test_requests_travel_side_by_side_and_answers_come_as_they_complete(serve: Callable[..., Server]) -> None:
    is_first_answered = threading.Event()

    def slow(live: socket.socket) -> None:
        read_request(live)
        is_first_answered.wait(5)
        live.sendall(OK)

    slow_server, quick_server = serve(slow), serve(answer(OK))
    exchange = Exchange(2, 1, 5)
    answers = exchange.send_all([slow_server.request(), quick_server.request()], lambda _: True)
    assert next(answers)[0].url.startswith(quick_server.origin)
    is_first_answered.set()
    assert next(answers)[0].url.startswith(slow_server.origin)
    exchange.close()


def test_more_requests_than_threads_are_all_answered(exchange: Exchange, serve: Callable[..., Server]) -> None:
    server = serve(answer(*[OK] * 50))
    requests = [server.request(b"%d" % n) for n in range(50)]
    answered = list(exchange.send_all(requests, lambda _: True))
    assert sorted(r.body for r, _ in answered) == sorted(r.body for r in requests)
    assert all(isinstance(a, Reply) for _, a in answered)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"a"),
    ],
    ids=["status line", "headers", "body", "chunks", "body until close"],
)
def test_a_dripping_reply_ends_at_the_total_deadline(exchange: Exchange, serve: Callable[..., Server], head: bytes, piece: bytes) -> None:
    over = threading.Event()
    server = serve(drip(head, piece, over))
    started = time.monotonic()
    (answered,) = ask(exchange, server.request())
    took_s = time.monotonic() - started
    over.set()
    assert left_in_doubt(answered)
    assert took_s >= DEADLINE_S * 0.9
    assert cut_at_the_deadline(answered)


def test_silence_ends_at_the_total_deadline(exchange: Exchange, serve: Callable[..., Server]) -> None:
    over = threading.Event()
    server = serve(in_turn(read_request, lambda _: over.wait(5)))
    answered = ask(exchange, *[server.request() for _ in range(4)])
    over.set()
    assert all(left_in_doubt(a) and cut_at_the_deadline(a) for a in answered)


def test_a_server_that_does_not_read_a_large_body_is_cut_off_too(exchange: Exchange, serve: Callable[..., Server]) -> None:
    over = threading.Event()
    server = serve(in_turn(lambda _: over.wait(5)))
    (answered,) = ask(exchange, server.request(b"a" * 20_000_000))
    over.set()
    assert left_in_doubt(answered)


def test_a_large_body_may_take_longer_than_the_connect_time_out(serve: Callable[..., Server]) -> None:
    def slow_reader(live: socket.socket) -> None:
        threading.Event().wait(0.3)
        read_request(live)
        live.sendall(OK)

    server = serve(slow_reader)
    exchange = Exchange(1, 0.1, 20)
    assert isinstance(ask(exchange, server.request(b"a" * 20_000_000))[0], Reply)
    exchange.close()


def test_a_refused_connection_has_sent_nothing_and_asked_nobody(exchange: Exchange) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    asked: list[Request] = []
    request = Request("POST", f"http://127.0.0.1:{port}/", {}, b"{}")
    answers = list(exchange.send_all([request], lambda r: bool(asked.append(r)) or True))
    assert nothing_left(answers[0][1])
    assert asked == []


def test_an_unknown_host_has_sent_nothing(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    assert nothing_left(ask(exchange, Request("POST", "http://esp.invalid/", {}, b"{}"))[0])


def test_a_hanging_name_look_up_is_answered_at_the_deadline_and_never_sent_later(
    exchange: Exchange, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(answer(OK))
    is_released, asked = threading.Event(), []
    look_up = socket.getaddrinfo

    def hang(*args: object, **options: object) -> object:
        is_released.wait(5)
        return look_up(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    ((_, answered),) = exchange.send_all([server.request()], lambda r: bool(asked.append(r)) or True)
    is_released.set()
    assert nothing_left(answered)
    assert cut_at_the_deadline(answered)
    exchange.close()
    assert asked == []


def test_a_connect_time_out_has_sent_nothing_and_is_not_tried_again(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def time_out(*arguments: object, **_: object) -> None:
        tried.append(arguments)
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib3.util.connection.create_connection", time_out)
    assert nothing_left(ask(exchange, Request("POST", "http://127.0.0.1:1/", {}, b"{}"))[0])
    assert len(tried) == 1


def test_a_reset_after_the_request_is_in_doubt(exchange: Exchange, serve: Callable[..., Server]) -> None:
    server = serve(in_turn(read_request, reset))
    assert left_in_doubt(ask(exchange, server.request())[0])


def test_a_reset_before_the_body_was_read_is_in_doubt(exchange: Exchange, serve: Callable[..., Server]) -> None:
    server = serve(in_turn(lambda live: live.recv(10), reset))
    assert left_in_doubt(ask(exchange, server.request(b"a" * 5_000_000))[0])


def test_a_reset_within_the_body_of_the_reply_is_in_doubt(exchange: Exchange, serve: Callable[..., Server]) -> None:
    def play(live: socket.socket) -> None:
        read_request(live)
        live.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")

    assert left_in_doubt(ask(exchange, serve(play).request())[0])


@pytest.mark.parametrize("interim", [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n" * 3])
def test_an_interim_answer_is_passed_over_and_nobody_gets_anothers(serve: Callable[..., Server], interim: bytes) -> None:
    go_on = threading.Event()

    def play(live: socket.socket) -> None:
        for status in (202, 400):
            read_request(live)
            live.sendall(interim)
            go_on.wait(0.2)  # time for a reader who takes it for the answer
            live.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)

    server = serve(play)
    with closing(Exchange(1, 2.0, 5.0)) as one_line:
        replies = [ask(one_line, server.request())[0] for _ in range(2)]
    assert [reply.status for reply in replies if isinstance(reply, Reply)] == [202, 400]


def test_interim_answers_without_end_end_at_the_total_deadline(exchange: Exchange, serve: Callable[..., Server]) -> None:
    over = threading.Event()
    assert left_in_doubt(ask(exchange, serve(drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", over)).request())[0])
    over.set()


@pytest.mark.parametrize("garbage", [b"SMTP ready\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 64, b""])
def test_a_malformed_reply_is_in_doubt(exchange: Exchange, serve: Callable[..., Server], garbage: bytes) -> None:
    assert left_in_doubt(ask(exchange, serve(answer(garbage)).request())[0])


def test_a_reply_that_comes_before_the_whole_body_was_read_is_heard(exchange: Exchange, serve: Callable[..., Server]) -> None:
    def play(live: socket.socket) -> None:
        live.recv(1000)
        live.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        read_request(live)

    (reply,) = ask(exchange, serve(play).request(b"a" * 3_000_000))
    assert isinstance(reply, Reply)
    assert reply.status == 413


def test_a_huge_body_is_capped_and_its_connection_is_not_used_again(serve: Callable[..., Server]) -> None:
    head = b"HTTP/1.1 400 Bad\r\nContent-Length: 9000000\r\n\r\n"
    server = serve(answer(head + b"a" * 9_000_000), answer(OK))
    exchange = Exchange(1, 1, 5)
    (reply,) = ask(exchange, server.request())
    assert isinstance(reply, Reply)
    assert len(reply.body) == MAX_REPLY_BYTES
    (second,) = ask(exchange, server.request())
    assert isinstance(second, Reply)
    assert second.status == 202
    exchange.close()


def test_a_body_that_swells_when_it_is_unpacked_is_capped_before(serve: Callable[..., Server]) -> None:
    bomb = gzip.compress(bytes(100_000_000), compresslevel=9)
    server = serve(answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb))
    exchange = Exchange(1, 1, 20)
    tracemalloc.start()
    (reply,) = ask(exchange, server.request())
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(reply, Reply)
    assert len(reply.body) == MAX_REPLY_BYTES
    assert peak_bytes < 16 * MAX_REPLY_BYTES
    exchange.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_reply_and_is_not_followed(exchange: Exchange, serve: Callable[..., Server], status: int) -> None:
    target = serve(answer(OK))
    server = serve(answer(f"HTTP/1.1 {status} Go\r\nLocation: {target.origin}/\r\nContent-Length: 2\r\n\r\nxx".encode()))
    (reply,) = ask(exchange, server.request())
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (status, b"xx")
    assert target._threads == []


def test_the_huge_body_of_a_redirect_is_capped_too(serve: Callable[..., Server]) -> None:
    server = serve(answer(b"HTTP/1.1 302 Go\r\nLocation: /\r\nContent-Length: 9000000\r\n\r\n" + b"a" * 9_000_000))
    exchange = Exchange(1, 1, 10)
    (reply,) = ask(exchange, server.request())
    assert isinstance(reply, Reply)
    assert len(reply.body) == MAX_REPLY_BYTES
    exchange.close()


def test_a_kept_connection_that_the_server_closes_on_the_next_request_is_never_tried_again(
    exchange: Exchange, serve: Callable[..., Server]
) -> None:
    came: list[bytes] = []

    def play(live: socket.socket) -> None:
        read_request(live)
        live.sendall(OK)
        came.append(live.recv(1))
        reset(live)

    server = serve(play, answer(OK))
    asked: list[Request] = []
    assert isinstance(ask(exchange, server.request())[0], Reply)
    ((_, answered),) = exchange.send_all([server.request()], lambda r: bool(asked.append(r)) or True)
    assert left_in_doubt(answered)
    assert len(asked) == 1
    assert len(server._threads) == 1


def test_a_connection_that_the_server_has_closed_is_replaced_before_anything_leaves(
    exchange: Exchange, serve: Callable[..., Server]
) -> None:
    server = serve(answer(OK), answer(OK))
    assert isinstance(ask(exchange, server.request())[0], Reply)
    server._threads[0].join(5)
    assert isinstance(ask(exchange, server.request())[0], Reply)


@pytest.mark.parametrize("is_over_tls", [False, True])
def test_an_idle_connection_is_retired_and_a_fresh_one_used(
    serve: Callable[..., Server], authority: tuple[Path, ssl.SSLContext], is_over_tls: bool
) -> None:
    over = threading.Event()

    def play(live: socket.socket) -> None:
        read_request(live)
        live.sendall(OK)
        assert live.recv(1) == b""  # the client lets go first; another request on this connection would be seen here
        over.set()

    server = serve(play, answer(OK), tls=authority[1] if is_over_tls else None)
    exchange = Exchange(1, 1, 2, idle_s={server.origin: 0.0}, authorities=authority[0])
    assert isinstance(ask(exchange, server.request())[0], Reply)
    assert isinstance(ask(exchange, server.request())[0], Reply)
    assert over.wait(2)
    exchange.close()


def test_on_leaving_is_called_once_per_request_in_the_sending_thread_before_its_first_byte(
    exchange: Exchange, serve: Callable[..., Server]
) -> None:
    order: list[str] = []
    asked_s: list[tuple[str, str]] = []

    def play(live: socket.socket) -> None:
        for _ in range(2):
            live.recv(1, socket.MSG_PEEK)
            order.append("byte")
            read_request(live)
            live.sendall(OK)

    def on_leaving(request: Request) -> bool:
        order.append("asked")
        asked_s.append((request.body.decode(), threading.current_thread().name))
        return True

    server = serve(play)
    for body in (b"1", b"2"):
        assert isinstance(next(exchange.send_all([server.request(body)], on_leaving))[1], Reply)
    assert order == ["asked", "byte", "asked", "byte"]
    assert [body for body, _ in asked_s] == ["1", "2"]
    assert all(name.startswith("esp-sender") for _, name in asked_s)


def test_a_no_from_on_leaving_sends_nothing(exchange: Exchange, serve: Callable[..., Server]) -> None:
    came: list[bytes] = []
    server = serve(lambda live: came.append(live.recv(10)))
    ((_, answered),) = exchange.send_all([server.request()], lambda _: False)
    assert nothing_left(answered)
    wait_until(lambda: len(came) == 1)
    assert came == [b""]


def test_what_may_not_begin_speaks_to_nobody(exchange: Exchange, serve: Callable[..., Server]) -> None:
    server = serve(answer(OK))
    asked: list[Request] = []
    first, second = server.request(b"1"), server.request(b"2")
    answers = {
        request.body: reply
        for request, reply in exchange.send_all([first, second], lambda r: bool(asked.append(r)) or True, lambda r: r is second)
    }
    assert nothing_left(answers[b"1"])
    assert isinstance(answers[b"2"], Reply)
    assert asked == [second]
    assert len(server._threads) == 1


@pytest.mark.expect_errors
def test_an_error_in_on_leaving_sends_nothing_and_is_logged(
    exchange: Exchange, serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    came: list[bytes] = []
    server = serve(lambda live: came.append(live.recv(10)))
    ((_, answered),) = exchange.send_all([server.request()], lambda _: 1 / 0 > 0)
    assert nothing_left(answered)
    wait_until(lambda: len(came) == 1)
    assert came == [b""]
    assert [r.message for r in caplog.records if r.levelname == "ERROR"] == ["request failed in an unexpected way"]


def test_who_stops_listening_holds_back_what_has_not_left(serve: Callable[..., Server]) -> None:
    is_released = threading.Event()
    asked: list[bytes] = []
    server = serve(in_turn(answer(OK), read_request, lambda _: is_released.wait(5), lambda live: live.sendall(OK), answer(*[OK] * 9)))
    exchange = Exchange(1, 1, 5)

    def on_leaving(request: Request) -> bool:
        asked.append(request.body)
        return True

    answers = exchange.send_all([server.request(b"%d" % n) for n in range(5)], on_leaving)
    next(answers)
    wait_until(lambda: len(asked) == 2)
    answers.close()  # type: ignore[attr-defined]
    is_released.set()
    list(exchange.send_all([server.request(b"last")], on_leaving))
    assert asked == [b"0", b"1", b"last"]
    exchange.close()


def test_closing_cuts_off_what_is_under_way(serve: Callable[..., Server]) -> None:
    over = threading.Event()
    server = serve(in_turn(read_request, lambda _: over.wait(5)))
    exchange = Exchange(1, 1, 30)
    is_leaving = threading.Event()
    answers = exchange.send_all([server.request(), server.request()], lambda _: is_leaving.set() or True)
    assert is_leaving.wait(5)
    exchange.close()
    first, second = [a for _, a in answers]
    over.set()
    assert left_in_doubt(first)
    assert isinstance(first, NoReply) and "closed while under way" in first.error
    assert nothing_left(second)
    with pytest.raises(RuntimeError):
        exchange.send_all([server.request()], lambda _: True)


def test_an_unusable_url_or_header_is_no_exception(exchange: Exchange) -> None:
    unusable = [
        Request("POST", "http://", {}, b""),
        Request("POST", "gopher://x/", {}, b""),
        Request("POST", "http://127.0.0.1:1/", {"A": "b\nc"}, b""),
    ]
    assert all(nothing_left(a) for a in ask(exchange, *unusable))


@pytest.mark.parametrize("key", ["canary\n", "canary\u20ac"])
def test_a_key_that_cannot_be_sent_sends_nothing_and_is_told_to_nobody(exchange: Exchange, serve: Callable[..., Server], key: str) -> None:
    server = serve(answer(OK))
    asked: list[Request] = []
    request = Request("POST", server.origin, {"Authorization": key}, b"{}")
    ((_, answered),) = exchange.send_all([request], lambda r: bool(asked.append(r)) or True)
    assert nothing_left(answered)
    assert "canary" not in str(answered)
    assert asked == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate file for 127.0.0.1 that signs itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


def test_tls_works_and_connections_are_kept(serve: Callable[..., Server], authority: tuple[Path, ssl.SSLContext]) -> None:
    server = serve(answer(OK, OK), tls=authority[1])
    exchange = Exchange(1, 1, 2, authorities=authority[0])
    for _ in range(2):
        assert isinstance(ask(exchange, server.request())[0], Reply)
    assert len(server._threads) == 1
    exchange.close()


def test_an_untrusted_certificate_sends_nothing(
    exchange: Exchange, serve: Callable[..., Server], authority: tuple[Path, ssl.SSLContext]
) -> None:
    asked: list[Request] = []
    server = serve(answer(OK), tls=authority[1])
    ((_, answered),) = exchange.send_all([server.request()], lambda r: bool(asked.append(r)) or True)
    assert nothing_left(answered)
    assert asked == []


def test_a_certificate_of_another_name_sends_nothing(serve: Callable[..., Server], authority: tuple[Path, ssl.SSLContext]) -> None:
    server = serve(answer(OK), tls=authority[1])
    exchange = Exchange(1, 1, 2, authorities=authority[0])
    request = Request("POST", server.origin.replace("127.0.0.1", "localhost"), {}, b"{}")
    assert nothing_left(ask(exchange, request)[0])
    exchange.close()


def test_a_hanging_tls_handshake_ends_at_the_deadline_with_nothing_sent(serve: Callable[..., Server]) -> None:
    hung_up = threading.Event()

    def listen_only(live: socket.socket) -> None:
        while live.recv(65536):
            pass
        hung_up.set()

    server = serve(listen_only)
    exchange = Exchange(1, 30, DEADLINE_S)
    (answered,) = ask(exchange, Request("POST", server.origin.replace("http", "https"), {}, b"{}"))
    assert nothing_left(answered)
    assert cut_at_the_deadline(answered)
    assert hung_up.wait(2)
    exchange.close()


def test_a_dripping_reply_over_tls_ends_at_the_deadline(serve: Callable[..., Server], authority: tuple[Path, ssl.SSLContext]) -> None:
    over = threading.Event()
    server = serve(drip(b"HTTP/1.1 200 OK\r\n", b"A", over), tls=authority[1])
    exchange = Exchange(1, 1, DEADLINE_S, authorities=authority[0])
    (answered,) = ask(exchange, server.request())
    over.set()
    assert left_in_doubt(answered)
    assert cut_at_the_deadline(answered)
    exchange.close()
