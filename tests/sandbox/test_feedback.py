"""What the fakes report back: the same for the same seed, worded so that the product understands it, signed so that it believes it."""

import json
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer

from esp import base
from mail.account import Account
from mail.envelope import read_envelope
from mail.errors import BadCallback
from mail.event import Event
from mail.ids import new_id, wire_id
from mail.machine_opens import is_machine_open
from sandbox.children import PROJECT, wait_until
from sandbox.fakes.callbacks import CallbackBuilder, Happening, Kind, Post, load
from sandbox.fakes.contract import Accepted
from sandbox.fakes.ledger import Ledger, Line
from sandbox.fates import FASTEST_PERSON_S, Fates
from sandbox.feedback import Feedback, Options, load_builders, main, settings_of
from sandbox.ledger_tail import LedgerTail
from sandbox.world import World, read_stanzas

pytestmark = pytest.mark.thorough

NOW_S = 1_800_000_000.0
KINDS: list[Kind] = [
    *("processed", "dropped", "deferred", "delivered", "hard_bounce", "soft_bounce"),
    *("block", "late_bounce", "open", "machine_open", "click", "complaint", "unsubscribe"),
]
ESPS = ["postmark", "sendgrid", "ses", "socketlabs", "sparkpost"]
MEANINGS: dict[Kind, tuple[str, str]] = {
    "processed": ("processed", ""),
    "deferred": ("deferred", ""),
    "delivered": ("delivered", ""),
    "hard_bounce": ("bounced", "hard"),
    "soft_bounce": ("bounced", "soft"),
    "block": ("bounced", "block"),
    "late_bounce": ("bounced", "hard"),
    "open": ("opened", ""),
    "machine_open": ("opened", ""),
    "click": ("clicked", ""),
    "complaint": ("complained", ""),
    "unsubscribe": ("unsubscribed", ""),
}
CALM: dict[str, dict[str, float]] = {
    "*": dict.fromkeys(
        ("dropped", "hard", "soft", "block", "deferred", "late", "machine", "open", "click", "complaint", "unsubscribe"), 0.0
    )
}


def line(n: int = 0, esp: str = "sendgrid", domain: str = "gmail.com", **changes: Any) -> Line:
    attempt_id = wire_id(new_id(n))
    message_id = attempt_id if esp == "socketlabs" else f"m{n}"  # which knows no other id than its sender's
    fields = {"at": NOW_S, "provider": esp, "attempt_id": attempt_id, "message_id": message_id, "subject": "Hi", "request": 1}
    return {**fields, "recipient": f"r{n}@{domain}", **changes}  # type: ignore[typeddict-item]


def happening(kind: Kind, esp: str) -> Happening:
    has_reader = kind in ("open", "machine_open", "click")
    agent = "Mozilla/5.0" if kind == "machine_open" else "Mozilla/5.0 (X11; Linux x86_64)"
    return Happening(kind, NOW_S + 60.25, line(esp=esp), 3, *((agent, "203.0.113.7", "https://sandbox.test/") if has_reader else ()))


def received(esp: str, posts: Sequence[Post], settings: Mapping[str, str] | None = None) -> list[Event]:
    """The events, read by the product with these settings."""
    credentials = read_stanzas()[esp]["credentials"]
    keys = {credential["setting"]: key for key, credential in credentials.items()}
    required = {key: "x" for key, credential in credentials.items() if credential["required"]}
    listener = base.load(Account(esp, 0, "", required | {keys[name]: value for name, value in (settings or {}).items()}))
    assert isinstance(listener, base.Listener)
    events: list[Event] = []
    for post in posts:
        value = json.dumps({"headers": dict(post.headers), "body": post.body.decode()}).encode()
        callback = read_envelope(value, received_at_s=NOW_S + 120)
        listener.verify(callback)
        events += listener.parse_events(callback.document)
    return events


class Bench:
    """A feedback over ledgers in a folder, a clock that stands still, and what was published."""

    def __init__(self, folder: Path, esps: Sequence[str] = ("postmark", "sendgrid"), **options: Any):
        self.now = NOW_S
        self.published: list[tuple[str, bytes]] = []
        self.ledgers = {esp: Ledger(folder, esp) for esp in esps}
        self.builders = load_builders(esps)
        tails = {esp: LedgerTail(ledger.path) for esp, ledger in self.ledgers.items()}
        publish = lambda topic, value: self.published.append((topic, value))  # noqa: E731
        self.feedback = Feedback(tails, self.builders, Options(**{"shuffle_s": 0, "repeats": 0} | options), publish, lambda: self.now)

    def accept(self, esp: str, count: int, start: int = 0, at: float = NOW_S) -> None:
        mails = [Accepted(wire_id(new_id(n)), f"m{n}", f"r{n}@gmail.com", "Hi", n) for n in range(start, start + count)]
        self.ledgers[esp].append(mails, at)

    def run_until(self, at: float, step_s: float = 1.0) -> None:
        while self.now < at:
            self.now += step_s
            self.feedback.step()

    def events(self, esp: str) -> list[Event]:
        settings = settings_of({esp: self.builders[esp]})
        posts = [json.loads(value) for topic, value in self.published if topic == f"webhook-{esp}"]
        return received(esp, [Post(post["headers"], post["body"].encode()) for post in posts], settings)


@pytest.fixture(params=ESPS)
def esp(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def builder(esp: str) -> CallbackBuilder:
    found = load(esp)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_product_understands_and_believes_each_kind_of_happening(esp: str, builder: CallbackBuilder, kind: Kind) -> None:
    one = happening(kind, esp)
    events = received(esp, builder.posts([one], NOW_S + 100), builder.settings())
    if (esp, kind) == ("postmark", "processed"):
        assert events == []
        return
    assert events
    for event in events:
        assert_told(event, one)


def assert_told(event: Event, one: Happening) -> None:
    """The event says what happened, to which mail, and when."""
    esp = one.line["provider"]
    if one.kind in MEANINGS:
        bounce = "soft" if (esp, one.kind) == ("ses", "block") else MEANINGS[one.kind][1]  # SES has no word for a block
        assert (event.type, event.bounce) == (MEANINGS[one.kind][0], bounce)
    else:
        assert event.type == "dropped"
    assert wire_id(event.attempt_id) == one.line["attempt_id"]
    is_nameless = (esp, one.kind) == ("sendgrid", "late_bounce")  # which comes back by mail
    assert event.message_id == ("" if is_nameless else one.line["message_id"])
    assert event.recipient == one.line["recipient"]
    at = one.line["at"] if (esp, one.kind) == ("ses", "processed") else one.at  # SES' "Send" knows only when the mail was taken
    assert event.at is not None and abs(event.at.timestamp() - at) < 1
    assert is_machine_open(event, None) is (one.kind == "machine_open")


@pytest.mark.parametrize("kind", ["hard_bounce", "soft_bounce", "block", "deferred", "dropped", "unsubscribe", "open", "late_bounce"])
def test_whatever_words_an_esp_finds_for_a_kind_they_mean_it(esp: str, builder: CallbackBuilder, kind: Kind) -> None:
    one = happening(kind, esp)
    happenings = [one._replace(number=n) for n in range(60)]
    events = received(esp, builder.posts(happenings, NOW_S + 100), builder.settings())
    assert len(events) >= 60
    for event in events:
        assert_told(event, one)
    if esp in ("ses", "socketlabs", "sparkpost") and kind in ("hard_bounce", "soft_bounce"):
        assert len({event.reason for event in events}) > 1


def test_arrays_come_from_those_who_send_arrays_and_single_events_from_the_others(esp: str, builder: CallbackBuilder) -> None:
    posts = builder.posts([happening("delivered", esp)._replace(number=n) for n in range(800)], NOW_S)
    sizes = [len(body) if isinstance(body := json.loads(post.body), list) else 1 for post in posts]
    assert sum(sizes) == 800
    assert max(sizes) == {"sendgrid": 500, "sparkpost": 350}.get(esp, 1)


def test_a_look_at_a_short_mail_fires_two_of_sparkposts_pixels_and_at_a_long_one_the_first() -> None:
    builder = load("sparkpost")
    assert builder is not None
    happenings = [happening("open", "sparkpost")._replace(number=n) for n in range(200)]
    (post, *_) = builder.posts(happenings, NOW_S)
    looks = Counter(event["msys"]["track_event"]["type"] for event in json.loads(post.body))
    assert looks["initial_open"] > looks["open"] > 0


def test_a_repeat_is_told_and_other_happenings_are_not_the_same(esp: str, builder: CallbackBuilder) -> None:
    happenings = [happening(kind, esp)._replace(at=NOW_S + n) for n, kind in enumerate(KINDS)]
    others = [one._replace(line=line(1, esp, message_id="other"), at=NOW_S + 70 + n) for n, one in enumerate(happenings)]
    first, again, other = (
        [event.event_id for event in received(esp, builder.posts(group, NOW_S), builder.settings())]
        for group in (happenings, happenings, others)
    )
    assert first == again
    assert len({*first, *other}) == len(first) + len(other)


def test_another_builders_signature_is_not_believed(esp: str, builder: CallbackBuilder) -> None:
    stranger = load(esp)
    assert stranger is not None
    # SES: the stranger's host of certificates is none that can be spoken to
    with pytest.raises(ConnectionError if esp == "ses" else BadCallback):
        received(esp, stranger.posts([happening("delivered", esp)], NOW_S), builder.settings())


def test_sns_is_believed_by_those_only_who_were_told_to_trust_the_sandboxs_root(tmp_path: Path) -> None:
    builder = load("ses", tmp_path)
    assert builder is not None
    posts, settings = builder.posts([happening("delivered", "ses")], NOW_S), builder.settings()
    assert len(received("ses", posts, settings)) == 1
    with pytest.raises(BadCallback, match="another host"):
        received("ses", posts, {name: value for name, value in settings.items() if name != "AWS_SNS_CERT_HOST"})
    with pytest.raises((BadCallback, ConnectionError)):
        received("ses", posts, {name: value for name, value in settings.items() if name != "AWS_SNS_TRUST_ROOT"})
    forged = json.loads(posts[0].body) | {"Message": "{}"}
    with pytest.raises(BadCallback, match="Signature"):
        received("ses", [Post({}, json.dumps(forged).encode())], settings)
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("certificate-host.pem")} == {0}


def test_what_a_builder_keeps_in_a_folder_of_its_own_is_gone_with_its_process() -> None:
    code = "from sandbox.fakes.callbacks import load; print(load('ses').settings()['AWS_SNS_TRUST_ROOT'])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert printed.endswith(".pem\n")
    assert not Path(printed.strip()).parent.exists()


def test_an_esp_without_a_builder_stays_silent() -> None:
    assert load("nobody") is None
    assert load_builders(["nobody"]) == {}


def test_the_same_seed_draws_the_same_fates_and_another_one_others() -> None:
    lines = [line(n) for n in range(500)]
    first, again, other = ([Fates(seed).of(one) for one in lines] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_mail_ends_in_one_way_and_nobody_opens_what_never_arrived() -> None:
    ends = {"dropped", "hard_bounce", "soft_bounce", "block", "delivered"}
    for n in range(3_000):
        fate = Fates(7).of(line(n, domain="outlook.com"))
        kinds = [one.kind for one in fate]
        assert kinds[0] == "processed"
        assert len(ends.intersection(kinds)) == 1
        if "delivered" not in kinds:
            assert len(kinds) == 2
        arrived_at = next((one.at for one in fate if one.kind == "delivered"), None)
        for one in fate:
            if one.kind in ("open", "click"):
                assert arrived_at is not None and one.at - arrived_at >= FASTEST_PERSON_S
        assert kinds.index("click") > kinds.index("open") if "click" in kinds else True


def test_some_mails_bounce_when_they_had_been_delivered_and_nobody_opens_those() -> None:
    fates = Fates(3, rates={"*": {"late": 0.5}})
    late = [kinds for n in range(300) if "late_bounce" in (kinds := [one.kind for one in fates.of(line(n))])]
    assert len(late) > 100
    assert all(kinds[-2:] == ["delivered", "late_bounce"] for kinds in late)


@pytest.mark.parametrize(
    ("esp", "address", "kinds"),
    [
        ("ses", "success@simulator.amazonses.com", ["delivered"]),
        ("ses", "Bounce+order-7@simulator.amazonses.com", ["hard_bounce"]),
        ("ses", "complaint@simulator.amazonses.com", ["delivered", "complaint"]),
        ("ses", "suppressionlist@simulator.amazonses.com", ["dropped"]),
        ("postmark", "hardbounce@bounce-testing.postmarkapp.com", ["hard_bounce"]),
        ("postmark", "softbounce@bounce-testing.postmarkapp.com", ["soft_bounce"]),
        ("postmark", "unsubscribe@bounce-testing.postmarkapp.com", ["delivered", "unsubscribe"]),
        ("postmark", "test@blackhole.postmarkapp.com", ["delivered"]),
        ("sparkpost", "anybody@gmail.com.sink.sparkpostmail.com", ["delivered"]),
        ("sparkpost", "anybody@oob.bouncy-sink.trymsys.net", ["delivered", "late_bounce"]),
        ("sparkpost", "anybody@openclick.bouncy-sink.trymsys.net", ["delivered", "open", "click"]),
    ],
)
def test_a_mail_to_an_esps_own_test_address_has_the_fate_it_is_for(esp: str, address: str, kinds: list[str]) -> None:
    certain = Fates(1, speed=1e6, rates={"*": {"block": 1, "dropped": 0, "hard": 0, "soft": 0}}).of(line(0, esp, recipient=address))
    assert [one.kind for one in certain] == ["processed", *kinds]
    builder = load(esp)
    assert builder is not None
    events = received(esp, builder.posts(certain, NOW_S), builder.settings())
    assert not any(is_machine_open(event, None) for event in events)


def test_a_test_address_of_another_esp_is_an_ordinary_one() -> None:
    certain = Fates(1, rates={"*": {"block": 1, "dropped": 0, "hard": 0, "soft": 0}})
    assert certain.of(line(0, "sendgrid", recipient="success@simulator.amazonses.com"))[1].kind == "block"
    assert certain.of(line(0, "ses", recipient="nobody@simulator.amazonses.com"))[1].kind == "block"


def test_rates_are_met_for_each_pair_of_esp_and_mailbox_provider() -> None:
    rates = {"sendgrid/gmail": {"block": 0.5}, "*": {"hard": 0.1}}
    counts: dict[tuple[str, str], Counter[str]] = {}
    for esp in ("sendgrid", "postmark"):
        for domain in ("gmail.com", "yahoo.com"):
            fates = Fates(3, rates=rates)
            counts[esp, domain] = Counter(one.kind for n in range(4_000) for one in fates.of(line(n, esp, domain)))
    assert 0.47 < counts["sendgrid", "gmail.com"]["block"] / 4_000 < 0.53
    assert all(counts[pair]["block"] / 4_000 < 0.04 for pair in counts if pair != ("sendgrid", "gmail.com"))
    assert all(0.08 < count["hard_bounce"] / 4_000 < 0.12 for count in counts.values())
    assert counts["postmark", "gmail.com"]["machine_open"] > 0.15 * 4_000
    assert counts["postmark", "gmail.com"]["open"] > 0.05 * 4_000


def test_speed_brings_everything_nearer_but_people_stay_people() -> None:
    slow, fast = Fates(1).of(line(5)), Fates(1, speed=3_600).of(line(5))
    assert [one.kind for one in slow] == [one.kind for one in fast]
    assert slow[1].at - NOW_S == pytest.approx((fast[1].at - NOW_S) * 3_600, rel=1e-3)


def test_however_fast_the_world_runs_no_person_opens_at_once() -> None:
    fates = Fates(1, speed=1e6, rates={"*/gmail": {"machine": 0, "open": 1, "inbox": 1}})
    people = 0
    for n in range(300):
        at = {one.kind: one.at for one in fates.of(line(n))}
        if "open" in at:
            people += 1
            assert at["open"] - at["delivered"] >= FASTEST_PERSON_S
    assert people > 250


@pytest.mark.parametrize("rates", [{"*": {"block": 2}}, {"sendgrid": {"blocks": 0.1}}, {"sendgrid": 7}, {"*": {"open": "many"}}])
def test_rates_that_are_none_are_refused(rates: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        Fates(1, rates=rates)


def test_a_tail_reads_whole_lines_once(tmp_path: Path) -> None:
    tail = LedgerTail(tmp_path / "sendgrid.jsonl")
    assert tail.read() == []
    with (tmp_path / "sendgrid.jsonl").open("ab", buffering=0) as file:
        file.write(json.dumps(line(0)).encode() + b"\n" + json.dumps(line(1)).encode())
        assert [one["message_id"] for one in tail.read()] == ["m0"]
        assert tail.read() == []
        file.write(b"\n")
        assert [one["message_id"] for one in tail.read()] == ["m1"]
        file.write(b"".join(json.dumps(line(n)).encode() + b"\n" for n in range(3_000)))
    lengths = [len(tail.read()) for _ in range(5)]
    assert sum(lengths) == 3_000 and lengths[0] < 3_000


def test_what_was_accepted_is_reported_when_its_time_comes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rates=CALM)
    bench.accept("sendgrid", 200)
    bench.accept("postmark", 200, start=200)
    bench.feedback.step()
    assert bench.published == []
    bench.run_until(NOW_S + 1)
    assert Counter(event.type for event in bench.events("sendgrid")) == {"processed": 200}
    bench.run_until(NOW_S + 3_600, step_s=10)
    assert Counter(event.type for event in bench.events("sendgrid")) == {"processed": 200, "delivered": 200}
    assert Counter(event.type for event in bench.events("postmark")) == {"delivered": 200}
    assert bench.feedback.waiting == 0
    assert {event.attempt_id for event in bench.events("postmark")}.isdisjoint(e.attempt_id for e in bench.events("sendgrid"))


def test_nothing_is_reported_before_it_happened(tmp_path: Path) -> None:
    bench = Bench(tmp_path, shuffle_s=30)
    bench.accept("sendgrid", 300)
    for _ in range(200):
        already = len(bench.published)
        bench.run_until(bench.now + 5, step_s=5)
        for _, value in bench.published[already:]:
            assert all(event["timestamp"] <= bench.now for event in json.loads(json.loads(value)["body"]))


def test_repeats_are_the_same_event_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rates=CALM, repeats=1.0)
    bench.accept("sendgrid", 50)
    bench.run_until(NOW_S + 7_200, step_s=10)
    seen = Counter(event.event_id for event in bench.events("sendgrid"))
    assert len(seen) == 100
    assert set(seen.values()) == {2}


def test_no_more_is_sent_than_the_pace_allows(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rates=CALM, events_per_s=10, speed=1e6)
    bench.accept("sendgrid", 500)
    bench.run_until(NOW_S + 10)
    assert len(bench.events("sendgrid")) <= 100
    bench.run_until(NOW_S + 120)
    assert len(bench.events("sendgrid")) == 1_000


def test_a_silent_esp_says_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rates=CALM, silent=("sendgrid",))
    bench.accept("sendgrid", 10)
    bench.accept("postmark", 10)
    bench.run_until(NOW_S + 3_600, step_s=60)
    assert bench.events("sendgrid") == []
    assert len(bench.events("postmark")) == 10


def test_what_a_predecessor_reported_is_not_reported_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rates=CALM)
    bench.accept("sendgrid", 10, at=NOW_S - 86_400)
    bench.accept("sendgrid", 10, start=10)
    bench.run_until(NOW_S + 86_400, step_s=600)
    assert {event.recipient for event in bench.events("sendgrid")} == {f"r{n}@gmail.com" for n in range(10, 20)}


def test_a_tenant_is_named_in_the_envelope_where_one_is_set(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rates=CALM, tenant=42)
    bench.accept("postmark", 1)
    bench.run_until(NOW_S + 3_600, step_s=60)
    assert [read_envelope(value).tenant for _, value in bench.published] == [42]


@pytest.mark.parametrize("options", ["[]", "{", '{"speed": 0}', '{"sped": 1}', '{"rates": {"*": {"block": 2}}}'])
def test_options_that_make_no_sense_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str) -> None:
    assert main(["--folder", str(tmp_path), "--bootstrap-servers", "127.0.0.1:1", "--options", options]) == 2
    assert "bad --options" in capsys.readouterr().err


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    options = {"speed": 1_000_000, "shuffle_s": 0, "repeats": 0, "rates": CALM}
    with tempfile.TemporaryDirectory(prefix="email-worker-tests-") as folder, World(Path(folder) / "world", feedback=options) as made:
        yield made


@pytest.mark.world
def test_a_world_with_feedback_calls_back_in_a_way_that_its_settings_believe(world: World) -> None:
    settings = world.environment()
    attempt_id = new_id()
    _send(settings, wire_id(attempt_id))
    consumer = Consumer({"bootstrap.servers": world.bootstrap_servers, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe(["webhook-sendgrid"])
    events: list[Event] = []

    def has_both() -> bool:
        record = consumer.poll(0.05)
        if record is not None and not record.error():
            callback = read_envelope(record.value() or b"", record.timestamp()[1] / 1000)
            esp = base.load(Account("sendgrid", 0, "", {"api_key": "x", "webhook_public_key": settings["SENDGRID_WEBHOOK_PUBLIC_KEY"]}))
            assert isinstance(esp, base.Listener)
            esp.verify(callback)
            events.extend(esp.parse_events(callback.document))
        return {event.type for event in events} == {"processed", "delivered"}

    wait_until(has_both, 20, "the callbacks")
    consumer.close()
    assert {event.attempt_id for event in events} == {attempt_id}
    assert settings["POSTMARK_WEBHOOK_PASSWORD"]


def _send(settings: Mapping[str, str], wire: str) -> None:
    body = {
        "personalizations": [{"to": [{"email": "ann@a.test"}], "custom_args": {"attempt_id": wire}}],
        "from": {"email": "shop@sandbox.test"},
        "subject": "Hi",
        "content": [{"type": "text/plain", "value": "Hello"}],
    }
    headers = {"Authorization": f"Bearer {settings['SENDGRID_API_KEY']}", "Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(f"{settings['SENDGRID_BASE_URL']}/v3/mail/send", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=5) as reply:
        assert reply.status == 202
