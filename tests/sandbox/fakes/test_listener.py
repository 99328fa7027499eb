"""Misbehaviour on the wire: what the sender gets to see, and what the ledger knows of it."""

import asyncio
import io
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.sandbox.fakes.serving import POSTMARK_HEADERS, SENDGRID_HEADERS, mail, serving

LIMIT_S = 5.0


def test_a_mail_is_in_the_ledger_before_its_reply_arrives(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"latency_ms": 60_000}) as served:
            _, writer = await served.raw("postmark", [mail(Metadata={"attempt_id": "01JDV7Q2T4M8K5R9W3X6YZABCD"})])
            async with asyncio.timeout(LIMIT_S):
                while not served.ledger("postmark"):
                    await asyncio.sleep(0.01)
            assert served.ledger("postmark")[0]["attempt_id"] == "01JDV7Q2T4M8K5R9W3X6YZABCD"
            writer.close()

    asyncio.run(scenario())


def test_lines_carry_the_ids_of_the_replies(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as served:
            _, body = await served.postmark(mail("a@x.test"), mail("nonsense"), mail("c@x.test"))
            results = orjson.loads(body)
            lines = served.ledger("postmark")
            assert [line["message_id"] for line in lines] == [results[0]["MessageID"], results[2]["MessageID"]]
            sendgrid = {"personalizations": [{"to": [{"email": "a@x.test"}]}] * 2, "from": {"email": "m@b.test"}, "subject": "s"}
            sendgrid["content"] = [{"type": "text/plain", "value": "t"}]
            async with served.client.post(served.urls["sendgrid"] + "/v3/mail/send", json=sendgrid, headers=SENDGRID_HEADERS) as reply:
                assert reply.status == 202
                assert [line["message_id"] for line in served.ledger("sendgrid")] == [reply.headers["X-Message-Id"]] * 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("step", "status", "taken"),
    [
        ({"do": "throttle"}, 429, 0),
        ({"do": "error_before", "status": 500}, 500, 0),
        ({"do": "error_before", "status": 502}, 502, 0),
        ({"do": "error_before"}, 503, 0),
        ({"do": "error_before", "status": 504}, 504, 0),
        ({"do": "error_after", "status": 500}, 500, 2),
        ({"do": "error_after", "status": 504}, 504, 2),
        ({"do": "error_after"}, 503, 2),
        ({"do": "redirect"}, 307, 0),
        ({"do": "answer", "status": 418, "body": {"a": 1}}, 418, 0),
        ({"do": "malformed"}, 200, 2),
        ({"do": "partial"}, 200, 1),
        ({"do": "ok"}, 200, 2),
    ],
)
def test_a_deed_has_its_status_and_its_truth(tmp_path: Path, step: dict[str, Any], status: int, taken: int) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"script": [step], "partial_share": 0}) as served:
            url = served.urls["postmark"] + "/email/batch"
            body = orjson.dumps([mail("a@x.test"), mail("b@x.test")])
            async with served.client.post(url, data=body, headers=POSTMARK_HEADERS, allow_redirects=False) as reply:
                assert reply.status == status
            assert len(served.ledger("postmark")) == taken
            assert (await served.postmark(mail()))[0] == 200

    asyncio.run(scenario())


def test_after_taking_nothing_is_said_that_means_a_no(tmp_path: Path) -> None:
    async def scenario() -> None:
        script = [{"do": "error_before", "status": 503}, {"do": "error_after", "status": 503}]
        async with serving(tmp_path, postmark={"script": script}) as served:
            (_, before), (status, after) = await served.postmark(mail()), await served.postmark(mail())
            assert orjson.loads(before)["ErrorCode"] == 100  # maintenance, a documented no
            assert (status, after[:6]) == (503, b"<html>")

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["throttle", "malformed", "redirect"])
def test_what_comes_with_a_deed(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"script": [{"do": kind, "retry_after": "seconds"}], "retry_after_s": 9}) as served:
            url = served.urls["postmark"] + "/email/batch"
            async with served.client.post(url, data=orjson.dumps([mail()]), headers=POSTMARK_HEADERS, allow_redirects=False) as reply:
                body = await reply.read()
                if kind == "throttle":
                    assert reply.headers["Retry-After"] == "9"
                    assert orjson.loads(body)["ErrorCode"] == 429
                elif kind == "redirect":
                    assert reply.headers["Location"] == "/moved-here"
                else:
                    with pytest.raises(orjson.JSONDecodeError):
                        orjson.loads(body)

    asyncio.run(scenario())


@pytest.mark.parametrize(("kind", "taken"), [("reset_unread", 0), ("reset_before", 0), ("reset_after", 1)])
def test_a_reset_is_a_real_one(tmp_path: Path, kind: str, taken: int) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"script": [kind]}) as served:
            reader, writer = await served.raw("postmark", [mail()])
            with pytest.raises(ConnectionResetError):
                async with asyncio.timeout(LIMIT_S):
                    await reader.read()
            writer.close()
            assert len(served.ledger("postmark")) == taken

    asyncio.run(scenario())


@pytest.mark.parametrize(("kind", "taken"), [("hang_before", 0), ("hang_after", 1)])
def test_a_hang_says_nothing_and_holds_no_stop_up(tmp_path: Path, kind: str, taken: int) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"script": [kind]}) as served:
            reader, writer = await served.raw("postmark", [mail()])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1)
            assert len(served.ledger("postmark")) == taken
            writer.close()

    asyncio.run(asyncio.wait_for(scenario(), LIMIT_S))


def test_a_hang_ends_in_a_reset_when_its_time_is_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"script": ["hang_after"], "hang_s": 0.05}) as served:
            with pytest.raises(aiohttp.ClientConnectionError):
                await served.postmark(mail())

    asyncio.run(asyncio.wait_for(scenario(), LIMIT_S))


@pytest.mark.parametrize(("kind", "first"), [("drip", b"HTTP/1.1 200 Fine\r\n"), ("drip_headers", b"H")])
def test_a_drip_comes_byte_by_byte_and_is_whole_in_the_end(tmp_path: Path, kind: str, first: bytes) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"script": [kind], "drip_interval_s": 0.001}) as served:
            reader, writer = await served.raw("postmark", [mail()])
            received = []
            async with asyncio.timeout(LIMIT_S):
                while chunk := await reader.read(65536):
                    received.append(chunk)
            assert received[0].startswith(first)
            assert len(received) > 50
            whole = b"".join(received)
            assert orjson.loads(whole.partition(b"\r\n\r\n")[2])[0]["MessageID"] == served.ledger("postmark")[0]["message_id"]
            writer.close()

    asyncio.run(scenario())


def test_a_drip_takes_a_second_a_byte_unless_told_otherwise(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"script": ["drip_headers"]}) as served:
            reader, writer = await served.raw("postmark", [mail()])
            started = asyncio.get_running_loop().time()
            async with asyncio.timeout(LIMIT_S):
                assert await reader.read(100) == b"H"
            assert asyncio.get_running_loop().time() - started >= 0.95
            writer.close()

    asyncio.run(scenario())


def test_a_cut_reply_promises_more_than_it_sends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"script": ["cut"]}) as served:
            with pytest.raises(aiohttp.ClientPayloadError):
                await served.postmark(mail())
            assert len(served.ledger("postmark")) == 1

    asyncio.run(scenario())


def test_a_huge_reply_is_as_long_as_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"script": ["huge"], "huge_bytes": 3_000_001}) as served:
            status, body = await served.postmark(mail())
            assert (status, len(body)) == (200, 3_000_001)
            assert len(served.ledger("postmark")) == 1

    asyncio.run(scenario())


def test_an_esp_that_is_down_refuses_health_questions_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"down": True}) as served:
            async with served.client.get(served.urls["postmark"] + "/server", headers=POSTMARK_HEADERS) as reply:
                assert reply.status == 503
            assert (await served.postmark(mail()))[0] == 503
            await served.control(esp="postmark", down=False)
            async with served.client.get(served.urls["postmark"] + "/server", headers=POSTMARK_HEADERS) as reply:
                assert reply.status == 200

    asyncio.run(scenario())


def test_health_questions_use_up_no_script(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, sendgrid={"script": ["throttle"]}) as served:
            async with served.client.get(served.urls["sendgrid"] + "/v3/scopes", headers=SENDGRID_HEADERS) as reply:
                assert reply.status == 200
            assert (await served.inbox("/control"))["sendgrid"]["script_left"] == 1

    asyncio.run(scenario())


def test_a_request_over_the_limit_hears_413_and_is_not_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as served:
            for esp, path, headers in (("sendgrid", "/v3/mail/send", SENDGRID_HEADERS), ("postmark", "/email/batch", POSTMARK_HEADERS)):
                limit = {"sendgrid": 30, "postmark": 50}[esp] * 1024 * 1024
                async with served.client.post(served.urls[esp] + path, data=io.BytesIO(b" " * (limit + 1)), headers=headers) as reply:
                    assert reply.status == 413
                assert served.ledger(esp) == []

    asyncio.run(scenario())


def test_one_connection_carries_many_requests(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as served:
            connector = served.client.connector
            assert connector is not None
            for _ in range(20):
                assert (await served.postmark(mail()))[0] == 200
            assert [line["request"] for line in served.ledger("postmark")] == list(range(1, 21))

    asyncio.run(scenario())


def test_500_mails_are_taken_in_one_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as served:
            status, body = await served.postmark(*[mail(f"u{n}@x.test") for n in range(500)])
            assert (status, len(orjson.loads(body))) == (200, 500)
            assert len({line["message_id"] for line in served.ledger("postmark")}) == 500

    asyncio.run(scenario())


def test_a_reply_is_as_late_as_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"latency_ms": 150}) as served:
            started = asyncio.get_running_loop().time()
            assert (await served.postmark(mail()))[0] == 200
            assert asyncio.get_running_loop().time() - started >= 0.15

    asyncio.run(scenario())


def test_a_hang_is_forgotten_as_soon_as_its_sender_has_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, postmark={"hang_after": 1}) as served:
            before = len(asyncio.all_tasks())
            _, writer = await served.raw("postmark", [mail()])
            async with asyncio.timeout(LIMIT_S):
                while not served.ledger("postmark"):
                    await asyncio.sleep(0.01)
                assert len(asyncio.all_tasks()) > before
                writer.close()
                while len(asyncio.all_tasks()) > before:
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())
