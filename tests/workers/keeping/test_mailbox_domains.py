"""Domains whose mailbox provider is told by their mail exchanger: asked by the keeper, remembered, used for the next mails."""

import socket
import threading
import time
from types import SimpleNamespace

import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from db import mailbox_domains
from db.mailbox_domains import Found
from workers.keeper import Keeper
from workers.keeping import exchangers
from workers.keeping.exchangers import KNOWN_FOR_S, UNANSWERED_FOR_S, Exchangers
from workers.steps.mailbox_providers import REFRESH_S, MailboxProviders

NOW_MS = int(time.time() * 1000)


class NameServer:
    """DNS on loopback: the zones say what each name's mail exchangers are; a name without any does not exist."""

    def __init__(self, **zones):
        self.zones, self.asked, self.silent = {"hosted.test": ["20 backup.test.", "10 Aspmx.L.GOOGLE.com."], **zones}, [], set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def resolver(self):
        made = dns.resolver.Resolver(configure=False)
        made.nameservers, made.port = ["127.0.0.1"], self._socket.getsockname()[1]
        return made

    def close(self):
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()

    def _serve(self):
        while True:
            data, address = self._socket.recvfrom(4096)
            if not data:
                return
            query = dns.message.from_wire(data)
            name = query.question[0].name
            text = name.to_text(omit_final_dot=True).lower()
            self.asked.append(text)
            if text in self.silent:
                continue
            answer = dns.message.make_response(query)
            if text not in self.zones:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            elif self.zones[text]:
                answer.answer.append(dns.rrset.from_text(name, 300, "IN", "MX", *self.zones[text]))
            self._socket.sendto(answer.to_wire(), address)


@pytest.fixture
def server():
    made = NameServer(**{"empty.test": [], "strange.test": ["10 mx.strange.test."], "null.test": ["0 ."]})
    yield made
    made.close()


@pytest.fixture
def asking(server):
    return Exchangers(server.resolver())


def test_the_preferred_exchanger_tells_who_takes_the_mail(asking):
    (found,) = asking.look_up(["hosted.test"])
    assert found == Found("hosted.test", "gmail", "aspmx.l.google.com", KNOWN_FOR_S)


@pytest.mark.parametrize(
    ("domain", "exchanger"), [("strange.test", "mx.strange.test"), ("empty.test", ""), ("nowhere.test", ""), ("null.test", "")]
)
def test_what_nobody_known_takes_is_other_and_asked_for_again_in_a_month(asking, domain, exchanger):
    (found,) = asking.look_up([domain])
    assert found == Found(domain, "other", exchanger, KNOWN_FOR_S)


@pytest.mark.parametrize("domain", ["x" * 64 + ".test", "a..b", "\udc00.test", "é" * 300, ".", "*", "a b.test", "\\", "\\300.test"])
def test_a_domain_that_cannot_be_asked_for_is_no_error(asking, domain):
    (found,) = asking.look_up([domain])
    assert (found.mailbox_provider, found.exchanger) == ("other", "")


def test_one_without_an_answer_is_left_in_peace_for_an_hour_and_the_time_is_bounded(server, monkeypatch):
    server.silent = {f"silent{n}.test" for n in range(20)}
    monkeypatch.setattr(exchangers, "ANSWER_LIMIT_S", 0.05)
    now_s = 0.0

    def clock():
        nonlocal now_s
        now_s += exchangers.ANSWER_LIMIT_S * 20  # what a look-up without an answer would cost at the usual limit
        return now_s

    found = list(Exchangers(server.resolver(), clock).look_up(sorted(server.silent)))
    assert 1 <= len(found) < 20
    assert {(f.mailbox_provider, f.again_s) for f in found} == {("other", UNANSWERED_FOR_S)}


# -- the keeper, and those who route -----------------------------------------------------------------------------------


@pytest.fixture
def keeper(world, asking):
    settings = SimpleNamespace(worker_name="w", worker_concurrency=1, mx_lookups=True)
    return Keeper(settings, world.database, None, None, asking)


def domains(world):
    return {row["domain"]: row["mailbox_provider"] for row in world.rows("SELECT domain, mailbox_provider FROM mailbox_domains")}


def test_the_keeper_asks_for_the_domains_of_late_mail_that_nobody_knows_and_once(world, keeper, server):
    for address in ("a@hosted.test", "b@HOSTED.test", "c@strange.test", "d@nowhere.test"):
        world.send(address, at_ms=NOW_MS)
    world.send("e@long-ago.test", at_ms=NOW_MS - 2 * 3_600_000)
    known = world.send("f@hosted-elsewhere.test", at_ms=NOW_MS)
    world.run(lambda cursor: cursor.execute("UPDATE email_attempts SET mailbox_provider = 'gmail' WHERE id = %s", (known.attempt_id,)))
    for _ in range(2):
        keeper.look_up_exchangers()
    assert domains(world) == {"hosted.test": "gmail", "strange.test": "other", "nowhere.test": "other"}
    assert sorted(server.asked) == ["hosted.test", "nowhere.test", "strange.test"]
    world.run(lambda cursor: cursor.execute("UPDATE mailbox_domains SET again_at = now() - interval '1 minute'"))
    server.zones["strange.test"] = ["1 mx1.mail.icloud.com."]
    keeper.look_up_exchangers()
    assert domains(world)["strange.test"] == "icloud"


def test_without_leave_the_keeper_asks_nobody(world):
    for is_allowed in (False, True):
        settings = SimpleNamespace(worker_name="w", worker_concurrency=1, mx_lookups=is_allowed)
        names = {chore.name for chore in Keeper(settings, world.database, None, None).chores()}
        assert ("look up mail exchangers" in names) is is_allowed


def test_what_was_found_counts_for_the_next_mails(world):
    now_s, reads = 0.0, 0

    def read():
        nonlocal reads
        reads += 1
        return world.run(mailbox_domains.find_hosted)

    providers = MailboxProviders(read, lambda: now_s)
    providers.refresh()
    assert providers.of("ann@hosted.test") == "other"
    found = [Found("hosted.test", "gmail", "x", 1.0), Found("gmail.com", "outlook", "x", 1.0), Found("strange.test", "other", "x", 1.0)]
    world.run(lambda cursor: mailbox_domains.store(cursor, found))
    providers.refresh()
    assert (providers.of("ann@hosted.test"), reads) == ("other", 1), "it is read once a minute"
    now_s += REFRESH_S
    providers.refresh()
    assert [providers.of(address) for address in ("ann@Hosted.Test", "ann@gmail.com", "ann@strange.test")] == ["gmail", "gmail", "other"]


def test_domains_that_nobody_writes_to_are_forgotten(world):
    world.run(
        lambda cursor: mailbox_domains.store(
            cursor, [Found("old.test", "gmail", "x", -31 * 86_400.0), Found("new.test", "gmail", "x", 1.0)]
        )
    )
    assert world.run(mailbox_domains.forget_old) == 1
    assert list(domains(world)) == ["new.test"]
