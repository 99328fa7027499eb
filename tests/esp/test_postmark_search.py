"""What Postmark's own records say about an attempt that nobody answered for."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from esp import base
from esp.postmark import Esp
from mail.account import Account
from mail.ids import new_id, wire_id
from mail.outcome import NoReply, Reply
from sandbox.fakes.contract import Call
from sandbox.fakes.postmark import Fake
from tests.esp.messages import message

NOW_S = 1_800_000_000.0
SOUGHT = base.Sought(new_id(int(NOW_S * 1000) - 60_000), "ann@a.test")
HIT = {"MessageID": "m-1", "Recipients": ["ann@a.test"], "Metadata": {"attempt_id": wire_id(SOUGHT.attempt_id)}}


def esp() -> Esp:
    return Esp(Account("postmark", 0, "https://api.postmarkapp.com", {"server_token": "t"}), now=lambda: NOW_S)


def found(answer: Any, status: int = 200) -> bool | None:
    (search,) = esp().find([SOUGHT])
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return esp().read_found(search, Reply(status, {}, body)).get(SOUGHT.attempt_id)


def test_each_attempt_is_asked_for_by_its_metadata() -> None:
    other = base.Sought(new_id(int(NOW_S * 1000)), "bob@b.test")
    searches = esp().find([SOUGHT, other])
    assert [search.attempts for search in searches] == [(SOUGHT,), (other,)]
    request = searches[0].request
    parts = urlsplit(request.url)
    assert (request.method, parts.path, request.messages) == ("GET", "/messages/outbound", ())
    assert parse_qs(parts.query) == {"count": ["10"], "offset": ["0"], "metadata_attempt_id": [wire_id(SOUGHT.attempt_id)]}
    assert request.headers["X-Postmark-Server-Token"] == "t"


def test_what_the_records_may_no_longer_hold_is_not_asked_for() -> None:
    old = base.Sought(new_id(int((NOW_S - 7 * 86_400) * 1000)), "ann@a.test")
    assert esp().find([old]) == []
    assert esp().find([]) == []


def test_a_message_with_its_metadata_was_taken() -> None:
    assert found({"TotalCount": 1, "Messages": [HIT]}) is True


def test_records_that_know_nothing_say_no() -> None:
    assert found({"TotalCount": 0, "Messages": []}) is False


def test_other_peoples_messages_prove_nothing() -> None:
    stranger = {"MessageID": "m-2", "Recipients": ["ann@a.test"], "Metadata": {"attempt_id": wire_id(new_id())}}
    assert found({"TotalCount": 1, "Messages": [stranger]}) is None
    assert found({"TotalCount": 2, "Messages": [stranger, HIT]}) is True


def test_without_metadata_in_the_answer_the_only_message_to_the_recipient_counts() -> None:
    bare = {"MessageID": "m-1", "Recipients": ["Ann@A.test"]}
    assert found({"TotalCount": 1, "Messages": [bare]}) is True
    assert found({"TotalCount": 900, "Messages": [bare]}) is None
    assert found({"TotalCount": 1, "Messages": [{"Recipients": ["bob@b.test"], "Metadata": {}}]}) is None


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"<html>", b"[]", {}, {"TotalCount": 0}, {"Messages": []}, {"TotalCount": 3, "Messages": []}),
        *({"TotalCount": "0", "Messages": []}, {"TotalCount": 0, "Messages": None}),
        {"TotalCount": 1, "Messages": [None, 7, [], {"Recipients": 7}]},
    ],
)
def test_an_answer_of_any_other_form_settles_nothing(answer: Any) -> None:
    assert found(answer) is None


@pytest.mark.parametrize("status", [401, 422, 429, 500, 503])
def test_a_refusal_settles_nothing(status: int) -> None:
    assert found({"TotalCount": 0, "Messages": []}, status) is None


def test_no_answer_settles_nothing() -> None:
    (search,) = esp().find([SOUGHT])
    assert esp().read_found(search, NoReply(True, "reset")) == {}


def test_the_fake_postmark_knows_what_it_took_and_nothing_else() -> None:
    fake, taken, lost = Fake(), message(), message()
    (request,) = esp().prepare([taken])
    assert fake.answer(Call(request.method, "/email/batch", request.headers, request.body)).status == 200
    answers: dict[str, bool] = {}
    clock = Esp(Account("postmark", 0, "https://api.postmarkapp.com", {"server_token": "t"}))
    for search in clock.find([base.Sought(one.attempt_id, one.to[0].email) for one in (taken, lost)]):
        parts = urlsplit(search.request.url)
        reply = fake.answer(Call(search.request.method, f"{parts.path}?{parts.query}", search.request.headers, b""))
        answers |= clock.read_found(search, Reply(reply.status, {}, reply.body))
    assert answers == {taken.attempt_id: True, lost.attempt_id: False}
