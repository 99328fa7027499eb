"""Postmark's search of what it took."""

from typing import Any

import orjson
import pytest

from sandbox.fakes.contract import Answer, Call
from sandbox.fakes.postmark import Fake

HEADERS = {"X-Postmark-Server-Token": "token", "Content-Type": "application/json", "Accept": "application/json"}


def fake_with(*metadata: dict[str, str]) -> Fake:
    fake = Fake(clock=lambda: 1_800_000_000.0)
    mails = [
        {"From": "me@brand.test", "To": f"r{n}@x.test", "Subject": f"Hi {n}", "TextBody": "Hi", "Metadata": one}
        for n, one in enumerate(metadata)
    ]
    assert fake.answer(Call("POST", "/email/batch", HEADERS, orjson.dumps(mails))).status == 200
    return fake


def search(fake: Fake, query: str) -> Answer:
    return fake.answer(Call("GET", f"/messages/outbound?{query}", HEADERS, b""))


def found(fake: Fake, query: str) -> tuple[int, list[str]]:
    answer: dict[str, Any] = orjson.loads(search(fake, f"count=10&offset=0&{query}").body)
    return answer["TotalCount"], [mail["Subject"] for mail in answer["Messages"]]


def test_mails_are_found_by_their_metadata_and_recipient() -> None:
    fake = fake_with({"attempt_id": "A"}, {"attempt_id": "B"}, {"attempt_id": "B", "other": "7"})
    assert found(fake, "metadata_attempt_id=A") == (1, ["Hi 0"])
    assert found(fake, "metadata_attempt_id=B") == (2, ["Hi 2", "Hi 1"])
    assert found(fake, "metadata_attempt_id=B&metadata_other=7") == (1, ["Hi 2"])
    assert found(fake, "metadata_attempt_id=a") == (0, [])
    assert found(fake, "recipient=R1@x.test") == (1, ["Hi 1"])
    assert found(fake, "tag=unknown-to-the-fake")[0] == 3


def test_a_mail_is_listed_with_all_but_its_contents() -> None:
    fake = Fake(clock=lambda: 1_800_000_000.0)
    mail = {
        "From": "Me <me@brand.test>",
        "To": 'Ann <a@x.test>, "B, C" <b@x.test>',
        "Cc": "c@x.test",
        "Subject": "Hi",
        "TextBody": "secret",
        "Tag": "news",
        "TrackOpens": True,
        "Attachments": [{"Name": "a.pdf", "Content": "YQ==", "ContentType": "application/pdf"}],
    }
    assert fake.answer(Call("POST", "/email", HEADERS, orjson.dumps(mail))).status == 200
    body = search(fake, "count=1&offset=0").body
    assert b"secret" not in body and b"YQ==" not in body
    (listed,) = orjson.loads(body)["Messages"]
    assert (listed["From"], listed["Tag"], listed["TrackOpens"], listed["TrackLinks"]) == ("Me <me@brand.test>", "news", True, "None")
    assert listed["To"] == [{"Email": "a@x.test", "Name": "Ann"}, {"Email": "b@x.test", "Name": "B, C"}]
    assert (listed["Cc"], listed["Bcc"], listed["Attachments"]) == ([{"Email": "c@x.test", "Name": None}], [], ["a.pdf"])
    assert listed["Recipients"] == ["a@x.test", "b@x.test", "c@x.test"]


def test_pages_are_bounded() -> None:
    fake = fake_with(*[{"attempt_id": str(n)} for n in range(20)])
    assert len(orjson.loads(search(fake, "count=5&offset=18").body)["Messages"]) == 2
    for query in ("", "count=5", "offset=0", "count=501&offset=0", "count=0&offset=0", "count=500&offset=9501", "count=-1&offset=0"):
        assert search(fake, query).status == 422


def test_what_was_refused_is_not_found() -> None:
    fake = Fake()
    assert fake.answer(Call("POST", "/email", HEADERS, b'{"From": "me@brand.test"}')).status == 422
    assert found(fake, "") == (0, [])


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_it_is_only_read(method: str) -> None:
    assert Fake().answer(Call(method, "/messages/outbound?count=1&offset=0", HEADERS, b"")).status == 405
