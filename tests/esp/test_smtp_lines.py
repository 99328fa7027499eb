"""The way to a relay: connections that are kept and secured, and what is known when one of them breaks."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from esp.exchange import Exchange, open_exchange
from esp.smtp import Esp
from mail.account import Account
from mail.message import Address, Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict
from tests.esp.messages import message
from tests.esp.relay import Relay, certificate, running_relay

DEADLINE_S = 2.0


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with running_relay(tmp_path) as running:
        yield running


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    made = open_exchange(2, 1.0, DEADLINE_S)
    yield made
    made.close()


def esp(relay: Relay, **credentials: str) -> Esp:
    return Esp(Account("smtp", 0, relay.url, {"encryption": "none", **credentials}))


def yes(request: Request) -> bool:
    return True


def ask(exchange: Exchange, request: Request, on_leaving: Callable[[Request], bool] = yes) -> Reply | NoReply:
    ((_, answer),) = exchange.send_all([request], on_leaving)
    return answer


def send(exchange: Exchange, sender: Esp, *messages: Message) -> list[Outcome]:
    answers = exchange.send_all(sender.prepare(messages), yes)
    return [outcome for request, reply in answers for outcome in sender.interpret(request, reply)]


def test_a_mail_arrives_byte_for_byte_and_its_reply_is_a_yes(relay: Relay, exchange: Exchange) -> None:
    one = message(text="line\n.\n..dots\n.", html="")
    (request,) = esp(relay).prepare([one])
    reply = ask(exchange, request)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.headers, reply.body[:17]) == (250, {"stage": "end"}, b"2.0.0 Ok: queued ")
    assert relay.contents() == [request.body]
    assert relay.ledger()[0]["recipient"] == "ann@a.test"


def test_a_hundred_mails_are_each_in_the_ledger_once(relay: Relay) -> None:
    messages = [message(to=(Address(f"u{n}@a.test"),), subject=f"Order {n}") for n in range(100)]
    exchange = open_exchange(4, 2.0, 20.0)
    outcomes = send(exchange, esp(relay), *messages)
    exchange.close()
    assert {o.verdict for o in outcomes} == {Verdict.ACCEPTED}
    ids = {o.attempt_id: o.message_id for o in outcomes}
    ledger = relay.ledger()
    assert sorted(line["message_id"] for line in ledger) == sorted(ids.values())
    assert len(set(ids.values())) == len(ledger) == 100
    assert sorted(line["recipient"] for line in ledger) == sorted(m.to[0].email for m in messages)
    assert relay.connections <= 8  # kept, and given up after 50 mails


def test_a_connection_is_given_up_after_50_mails(relay: Relay) -> None:
    exchange = open_exchange(1, 2.0, 20.0)
    send(exchange, esp(relay), *[message() for _ in range(51)])
    exchange.close()
    assert relay.connections == 2


def test_a_relay_that_takes_fewer_mails_a_connection_costs_connections_and_no_mail(relay: Relay) -> None:
    relay.behave(mails_per_connection=3)
    left: list[Request] = []
    exchange = open_exchange(1, 2.0, 20.0)
    requests = esp(relay).prepare([message() for _ in range(10)])
    answers = list(exchange.send_all(requests, lambda request: bool(left.append(request)) or True))
    exchange.close()
    assert {o.verdict for request, reply in answers for o in esp(relay).interpret(request, reply)} == {Verdict.ACCEPTED}
    assert (relay.connections, len(left), len(relay.ledger())) == (4, 10, 10)


def test_it_leaves_right_before_the_content_and_only_once(relay: Relay, exchange: Exchange) -> None:
    left: list[Request] = []

    def note(request: Request) -> bool:
        left.append(request)
        return True

    (request,) = esp(relay).prepare([message()])
    ask(exchange, request, note)
    assert left == [request]
    relay.behave(bad_recipients=["@a.test"])
    ask(exchange, request, note)
    assert left == [request]  # refused before the content: it never left


def test_what_is_held_back_is_not_sent(relay: Relay, exchange: Exchange) -> None:
    (request,) = esp(relay).prepare([message()])
    answer = ask(exchange, request, lambda r: False)
    assert isinstance(answer, NoReply) and not answer.has_left
    assert relay.ledger() == []
    assert isinstance(ask(exchange, request), Reply)
    assert len(relay.ledger()) == 1


@pytest.mark.parametrize(
    ("deed", "taken"),
    [
        *(("reset_after", 1), ("hang_after", 1), ("error_after", 1), ("malformed", 1), ("cut", 1), ("huge", 1), ("drip", 1)),
        *(("reset_before", 0), ("hang_before", 0), ("redirect", 0)),
    ],
)
def test_whatever_breaks_behind_the_final_dot_leaves_it_open(relay: Relay, exchange: Exchange, deed: str, taken: int) -> None:
    relay.behave(script=[deed], drip_interval_s=0.2)
    (outcome,) = send(exchange, esp(relay), message())
    assert outcome.verdict is Verdict.UNKNOWN
    assert len(relay.ledger()) == taken
    assert relay.done == {deed: 1}  # and nothing was sent again
    assert send(exchange, esp(relay), message())[0].verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("deed", "verdict", "blame"),
    [
        ({"do": "throttle"}, Verdict.THROTTLED, Blame.ESP),
        ({"do": "error_before", "status": 451}, Verdict.UNAVAILABLE, Blame.ESP),
        ({"do": "error_before", "status": 421}, Verdict.UNAVAILABLE, Blame.ESP),
        ({"do": "error_before", "status": 552}, Verdict.UNSUPPORTED, Blame.MESSAGE),
        ({"do": "error_before", "status": 554}, Verdict.REJECTED, Blame.MESSAGE),
        ({"do": "partial"}, Verdict.REJECTED, Blame.RECIPIENT),
    ],
)
def test_a_refusal_takes_nothing(relay: Relay, exchange: Exchange, deed: dict[str, object], verdict: Verdict, blame: Blame) -> None:
    relay.behave(script=[deed])
    (outcome,) = send(exchange, esp(relay), message())
    assert (outcome.verdict, outcome.blame) == (verdict, blame)
    assert relay.ledger() == []
    assert send(exchange, esp(relay), message())[0].verdict is Verdict.ACCEPTED
    assert "@" not in outcome.detail


def test_a_relay_that_is_down_or_away_is_unavailable(relay: Relay, exchange: Exchange) -> None:
    relay.behave(down=True)
    assert send(exchange, esp(relay), message())[0].verdict is Verdict.UNAVAILABLE
    away = Esp(Account("smtp", 0, "smtp://127.0.0.1:1", {"encryption": "none"}))
    (outcome,) = send(exchange, away, message())
    assert (outcome.verdict, outcome.blame) == (Verdict.UNAVAILABLE, Blame.NETWORK)


def test_a_greeting_that_never_comes_ends_at_the_deadline(exchange: Exchange) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        (outcome,) = send(exchange, Esp(Account("smtp", 0, f"smtp://127.0.0.1:{mute.getsockname()[1]}", {"encryption": "none"})), message())
        assert (outcome.verdict, outcome.blame) == (Verdict.UNAVAILABLE, Blame.NETWORK)
        assert "deadline" in outcome.detail


def test_other_recipients_are_refused_for_good_without_stopping_the_mail(relay: Relay, exchange: Exchange) -> None:
    relay.behave(bad_recipients=["gone@a.test"])
    copies = message(cc=(Address("gone@a.test"),), bcc=(Address("bob@a.test"),))
    (outcome,) = send(exchange, esp(relay), copies)
    assert outcome.verdict is Verdict.ACCEPTED
    assert "1 of the other recipients refused" in outcome.detail
    (outcome,) = send(exchange, esp(relay), message(to=(Address("gone@a.test"),), cc=(Address("bob@a.test"),)))
    assert (outcome.verdict, outcome.blame) == (Verdict.REJECTED, Blame.RECIPIENT)


def test_a_kept_connection_that_died_is_found_out_before_anything_is_said(relay: Relay) -> None:
    exchange = open_exchange(1, 2.0, 5.0)
    sender = esp(relay)
    assert send(exchange, sender, message())[0].verdict is Verdict.ACCEPTED
    time_passes(exchange, 2.0)
    relay.behave(script=["ok"])
    hang_up(exchange)
    assert send(exchange, sender, message())[0].verdict is Verdict.ACCEPTED
    assert relay.connections == 2
    assert len(relay.ledger()) == 2
    exchange.close()


def test_a_connection_that_idled_too_long_is_not_used_again(relay: Relay) -> None:
    exchange = open_exchange(1, 2.0, 5.0, idle_s={relay.url: 10.0})
    for rest_s, connections in ((0.0, 1), (2.0, 1), (11.0, 2)):
        time_passes(exchange, rest_s)
        assert send(exchange, esp(relay), message())[0].verdict is Verdict.ACCEPTED
        assert relay.connections == connections
    exchange.close()


def test_logins_do_not_share_connections(relay: Relay) -> None:
    exchange = open_exchange(1, 2.0, 5.0)
    for name in ("ann", "bob", "ann"):
        assert send(exchange, esp(relay, username=name, password="p"), message())[0].verdict is Verdict.ACCEPTED
    assert relay.connections == 3  # at most one is kept, whosever it is
    exchange.close()


@pytest.mark.parametrize(
    ("username", "password", "verdict"),
    [("ann", "pässwörd: with blanks", Verdict.ACCEPTED), ("ann", "wrong", Verdict.MISCONFIGURED), ("", "", Verdict.MISCONFIGURED)],
)
def test_the_relay_is_logged_in_to(relay: Relay, exchange: Exchange, username: str, password: str, verdict: Verdict) -> None:
    relay.behave(key="ann:pässwörd: with blanks")
    (outcome,) = send(exchange, esp(relay, username=username, password=password), message())
    assert outcome.verdict is verdict


@pytest.mark.parametrize("encryption", ["starttls", "tls"])
def test_tls_is_verified(tmp_path: Path, encryption: str) -> None:
    tls, authority = certificate(tmp_path)
    with running_relay(tmp_path, tls, is_implicit=encryption == "tls") as relay:
        exchange = open_exchange(1, 2.0, 5.0, authorities=authority)
        sender = esp(relay, encryption=encryption, username="ann", password="p")
        outcomes = send(exchange, sender, message(), message())
        assert [o.verdict for o in outcomes] == [Verdict.ACCEPTED] * 2
        assert relay.connections == 1
        exchange.close()


@pytest.mark.parametrize("encryption", ["starttls", "tls"])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_strangers_certificate_or_name_gets_no_mail_and_no_password(tmp_path: Path, encryption: str, is_known: bool) -> None:
    tls, authority = certificate(tmp_path, "elsewhere.test")
    with running_relay(tmp_path, tls, is_implicit=encryption == "tls") as relay:
        exchange = open_exchange(1, 2.0, 5.0, authorities=authority if is_known else None)
        (outcome,) = send(exchange, esp(relay, encryption=encryption, username="ann", password="p"), message())
        exchange.close()
        assert (outcome.verdict, outcome.blame) == (Verdict.UNAVAILABLE, Blame.NETWORK)
        assert relay.ledger() == []


def test_without_starttls_nothing_goes_out_in_plain(relay: Relay, exchange: Exchange) -> None:
    (outcome,) = send(exchange, esp(relay, encryption="starttls", username="ann", password="p"), message())
    assert (outcome.verdict, outcome.blame) == (Verdict.MISCONFIGURED, Blame.US)
    assert relay.done == {}


def test_what_the_relay_cannot_express_goes_elsewhere(relay: Relay) -> None:
    exchange = open_exchange(1, 2.0, 10.0)
    (request,) = esp(relay).prepare([message()])
    large = Request(request.method, request.url, request.headers, request.body + b"x\r\n" * 9_000_000, request.messages)
    reply = ask(exchange, large)
    assert isinstance(reply, Reply)
    assert [o.verdict for o in esp(relay).interpret(large, reply)] == [Verdict.UNSUPPORTED]
    assert relay.done == {}
    exchange.close()


def test_an_international_address_needs_a_relay_that_knows_them(relay: Relay, exchange: Exchange) -> None:
    (outcome,) = send(exchange, esp(relay), message(to=(Address("käthe@a.test", "Käthe"),)))
    assert outcome.verdict is Verdict.ACCEPTED
    assert relay.ledger()[0]["recipient"] == "käthe@a.test"


def test_health_tells_good_credentials_from_bad(relay: Relay) -> None:
    relay.behave(key="ann:p")
    with closing(open_exchange(1, 5.0, 20.0)) as patient:
        told = [login.read_health(ask(patient, login.health())).is_good for login in (esp(relay, username="ann", password=p) for p in "pq")]
    assert told == [True, False]
    assert relay.done == {}


def test_both_kinds_of_urls_share_one_exchange(exchange: Exchange) -> None:
    request = Request("GET", "gopher://127.0.0.1/", {}, b"")
    answer = ask(exchange, request)
    assert isinstance(answer, NoReply) and not answer.has_left


@pytest.fixture(autouse=True)
def no_thread_stays_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    limit_s = time.monotonic() + 5
    while not set(threading.enumerate()) <= before:
        assert time.monotonic() < limit_s
        threading.Event().wait(0.005)


def time_passes(exchange: Exchange, seconds: float) -> None:
    """As if the kept connections had rested so long."""
    for _, client in exchange._lines["smtp"]._idle:  # type: ignore[attr-defined]
        client.rested_at_s -= seconds


def hang_up(exchange: Exchange) -> None:
    """As if the relay had closed the kept connections."""

    for _, client in exchange._lines["smtp"]._idle:  # type: ignore[attr-defined]
        client.sock.shutdown(socket.SHUT_RDWR)
