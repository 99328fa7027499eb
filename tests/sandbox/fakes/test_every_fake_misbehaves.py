"""Every misbehaviour, by command, at every fake that speaks HTTP: what its sender hears, and what was taken all the same.

The relay's own deeds are in test_smtp.py; here they are only counted, so that no fake is left out.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import aiohttp
import orjson
import pytest

from sandbox import fakes
from sandbox.fakes.misbehaviour import Kind
from tests.sandbox.fakes import test_smtp
from tests.sandbox.fakes.serving import POSTMARK_HEADERS, SENDGRID_HEADERS, Served, mail, serving
from tests.sandbox.fakes.test_ses import bulk, entry, signed

JSON = {"Content-Type": "application/json"}
PEOPLE = ("u0@x.test", "u1@x.test", "u2@x.test")
LIMIT_S = 10.0


def sendgrid() -> tuple[str, dict[str, str], Any]:
    content = [{"type": "text/plain", "value": "Hi"}]
    ones = [{"to": [{"email": email}]} for email in PEOPLE]
    return (
        "/v3/mail/send",
        SENDGRID_HEADERS,
        {"personalizations": ones, "from": {"email": "me@brand.test"}, "subject": "Hi", "content": content},
    )


def postmark() -> tuple[str, dict[str, str], Any]:
    return "/email/batch", POSTMARK_HEADERS, [mail(email) for email in PEOPLE]


def socketlabs() -> tuple[str, dict[str, str], Any]:
    words = {"from": {"emailAddress": "me@brand.test"}, "subject": "Hi", "textBody": "Hi"}
    messages = [{"to": [{"emailAddress": email}], **words} for email in PEOPLE]
    return "/api/v1/email", JSON, {"serverId": 1, "apiKey": "legacy", "messages": messages}


def sparkpost() -> tuple[str, dict[str, str], Any]:
    content = {"from": "me@brand.test", "subject": "Hi", "text": "Hi"}
    return (
        "/api/v1/transmissions",
        {**JSON, "Authorization": "key"},
        {"recipients": [{"address": email} for email in PEOPLE], "content": content},
    )


def ses() -> tuple[str, dict[str, str], Any]:
    return "/v2/email/outbound-bulk-emails", {}, bulk(*[entry(n) for n in range(len(PEOPLE))])


REQUESTS = {"postmark": postmark, "sendgrid": sendgrid, "ses": ses, "socketlabs": socketlabs, "sparkpost": sparkpost}
HTTP = sorted(REQUESTS)
SOUND = {"sendgrid": 202}
# What is left of three mails of which one is refused for no good reason.
LEFT = {"sendgrid": 0}


@asynccontextmanager
async def asked(served: Served, esp: str) -> AsyncIterator[aiohttp.ClientResponse]:
    path, headers, request = REQUESTS[esp]()
    body, url = orjson.dumps(request), served.urls[esp]
    if esp == "ses":
        headers = signed("POST", path, body, at=time.time(), signed_host=url.removeprefix("http://"))
    timeout = aiohttp.ClientTimeout(total=LIMIT_S)
    async with served.client.post(url + path, data=body, headers=headers, allow_redirects=False, timeout=timeout) as reply:
        yield reply


def play(folder: Path, esp: str, scenario: Any, **behaviour: Any) -> None:
    async def run() -> None:
        async with serving(folder) as served:
            assert (await served.control(esp=esp, partial_share=0, **behaviour))["status"] == 200
            await scenario(served)

    asyncio.run(run())


def test_no_fake_and_no_deed_is_left_out() -> None:
    assert {*HTTP, "smtp"} == set(fakes.names())
    deeds = {"ok", *(deed for deed, _, _ in ANSWERED), *(deed for deed, _ in SILENT), "drip", "drip_headers", "malformed", "cut", "huge"}
    assert deeds == set(get_args(Kind))
    # at the relay this one comes before any reply, and has a test of its own
    assert {deed for deed, _, _ in test_smtp.DEEDS} | {"reset_unread"} == set(get_args(Kind))


ANSWERED = [
    ("throttle", 429, 0),
    ("error_before", 503, 0),
    ("error_after", 503, 3),
    ("redirect", 307, 0),
    ("answer", 418, 0),
    ("partial", None, None),
]
SILENT = [("hang_before", 0), ("hang_after", 3), ("reset_unread", 0), ("reset_before", 0), ("reset_after", 3)]


@pytest.mark.parametrize("esp", HTTP)
@pytest.mark.parametrize(("deed", "status", "taken"), ANSWERED)
def test_a_deed_that_answers(tmp_path: Path, esp: str, deed: str, status: int | None, taken: int | None) -> None:
    async def scenario(served: Served) -> None:
        async with asked(served, esp) as reply:
            assert reply.status == (status or (400 if esp == "sendgrid" else 200))
            if deed == "answer":
                assert await reply.json() == {"a": 1}
            if deed == "throttle":
                assert reply.headers["Retry-After"] == "7"
            if deed == "redirect":
                assert reply.headers["Location"]
        assert len(served.ledger(esp)) == (LEFT.get(esp, 2) if taken is None else taken)
        async with asked(served, esp) as reply:
            assert reply.status == SOUND.get(esp, 200)

    step = {"do": deed, **({"status": 418, "body": {"a": 1}} if deed == "answer" else {})}
    play(tmp_path, esp, scenario, script=[step], retry_after="seconds", retry_after_s=7)


@pytest.mark.parametrize("esp", HTTP)
@pytest.mark.parametrize(("deed", "taken"), SILENT)
def test_a_deed_that_never_answers(tmp_path: Path, esp: str, deed: str, taken: int) -> None:
    async def scenario(served: Served) -> None:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            async with asked(served, esp):
                pass
        assert len(served.ledger(esp)) == taken

    play(tmp_path, esp, scenario, script=[deed], hang_s=0.05)


@pytest.mark.parametrize("esp", HTTP)
@pytest.mark.parametrize("deed", ["drip", "drip_headers", "malformed", "cut", "huge"])
def test_a_deed_that_answers_badly_though_all_is_taken(tmp_path: Path, esp: str, deed: str) -> None:
    async def scenario(served: Served) -> None:
        async with asked(served, esp) as reply:
            assert reply.status == SOUND.get(esp, 200)
            if deed == "cut":
                with pytest.raises(aiohttp.ClientPayloadError):
                    await reply.read()
            else:
                body = await reply.read()
        if deed == "malformed":
            with pytest.raises(orjson.JSONDecodeError):
                orjson.loads(body)
        if deed == "huge":
            assert len(body) == 200_000
        if deed.startswith("drip") and esp != "sendgrid":  # whose answer is empty
            orjson.loads(body)
        assert len(served.ledger(esp)) == 3

    play(tmp_path, esp, scenario, script=[deed], drip_interval_s=0.0001, huge_bytes=200_000)


@pytest.mark.parametrize("esp", HTTP)
def test_a_rate_throttles_what_comes_beyond_it_in_a_second(tmp_path: Path, esp: str) -> None:
    now = [1_800_000_000.5]

    async def run() -> None:
        async with serving(tmp_path, lambda: now[0], **{esp: {"requests_per_s": 2}}) as served:
            statuses = []
            for _ in range(8):
                async with asked(served, esp) as reply:
                    statuses.append(reply.status)
                if len(statuses) == 4:
                    now[0] += 1
            assert statuses == [*[SOUND.get(esp, 200)] * 2, 429, 429] * 2
            assert len(served.ledger(esp)) == 12

    asyncio.run(run())


@pytest.mark.parametrize("esp", HTTP)
def test_an_esp_that_is_down_takes_nothing_until_it_is_up_again(tmp_path: Path, esp: str) -> None:
    async def scenario(served: Served) -> None:
        async with asked(served, esp) as reply:
            assert reply.status == 503
        assert served.ledger(esp) == []
        await served.control(esp=esp, down=False)
        async with asked(served, esp) as reply:
            assert reply.status == SOUND.get(esp, 200)

    play(tmp_path, esp, scenario, down=True)
