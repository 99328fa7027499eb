"""The fake relay refuses what a strict relay refuses, line by line on its own socket."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.sandbox.fakes.serving import Served, serving

CONTENT = (
    b"From: me@brand.test\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nSubject: Hi\r\n"
    b"Message-ID: <m-1@brand.test>\r\nX-Attempt-Id: A1\r\n\r\nwords\r\n"
)
LIMIT_S = 5.0


@dataclass
class Talk:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def hear(self) -> tuple[int, str]:
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readuntil(b"\r\n"), LIMIT_S)).decode()
            lines.append(line[4:-2])
            if line[3] != "-":
                return int(line[:3]), "\n".join(lines)

    async def say(self, command: str | bytes) -> int:
        return (await self.ask(command))[0]

    async def ask(self, command: str | bytes) -> tuple[int, str]:
        self.writer.write((command.encode() if isinstance(command, str) else command) + b"\r\n")
        return await self.hear()

    async def begin(self) -> None:
        assert (await self.hear())[0] == 220
        assert await self.say("EHLO test") == 250

    async def send(self, content: bytes = CONTENT, recipient: str = "ann@a.test", options: str = "") -> tuple[int, str]:
        assert await self.say(f"MAIL FROM:<me@brand.test>{options}") == 250
        assert await self.say(f"RCPT TO:<{recipient}>") == 250
        assert await self.say("DATA") == 354
        return await self.ask(content + b".")


@asynccontextmanager
async def talking(served: Served) -> AsyncIterator[Talk]:
    host, port = served.urls["smtp"].removeprefix("smtp://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    yield Talk(reader, writer)
    writer.close()


def talk_through(folder: Path, scenario: Any, **behaviour: Any) -> None:
    async def run() -> None:
        async with serving(folder, smtp=behaviour) as served, talking(served) as talk:
            await scenario(served, talk)

    asyncio.run(run())


def test_a_mail_is_taken_and_can_be_read(tmp_path: Path) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        code, words = await talk.send(CONTENT.replace(b"words", b"..words"))
        assert (code, words[:17]) == (250, "2.0.0 Ok: queued ")
        (line,) = served.ledger("smtp")
        assert (line["attempt_id"], line["message_id"], line["recipient"], line["subject"]) == (
            "A1",
            "<m-1@brand.test>",
            "ann@a.test",
            "Hi",
        )
        (mail,) = (await served.inbox("/api/mails"))["mails"]
        assert (await served.inbox(f"/api/mails/{mail['n']}"))["content"]["text"].strip() == ".words"
        assert (await talk.send())[0] == 250
        assert await talk.say("QUIT") == 221

    talk_through(tmp_path, scenario)


def test_commands_have_an_order(tmp_path: Path) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.hear()
        told = []
        for command in (
            "MAIL FROM:<a@b.test>",
            "EHLO",
            "EHLO x",
            "RCPT TO:<a@b.test>",
            "DATA",
            "MAIL FROM:<a@b.test>",
            "MAIL FROM:<a@b.test>",
        ):
            told.append(await talk.say(command))
        for command in ("DATA", "RCPT TO:<c@d.test>", "RSET", "DATA", "NOOP", "VRFY a", "STARTTLS", "nonsense"):
            told.append(await talk.say(command))
        assert told == [503, 501, 250, 503, 503, 250, 503, 503, 250, 250, 503, 250, 500, 502, 500]

    talk_through(tmp_path, scenario)


def test_commands_that_came_together_are_answered_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []
    plain = asyncio.StreamWriter.write
    monkeypatch.setattr(asyncio.StreamWriter, "write", lambda self, data: (pieces.append(bytes(data)), plain(self, data))[1])

    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        assert await talk.say("MAIL FROM:<me@brand.test>\r\nRCPT TO:<ann@a.test>\r\nDATA") == 250
        assert [(await talk.hear())[0] for _ in range(2)] == [250, 354]
        assert (await talk.ask(CONTENT + b"."))[0] == 250

    talk_through(tmp_path, scenario)
    assert b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n" in pieces


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("MAIL FROM: <a@b.test>", 501),
        ("MAIL FROM:a@b.test", 501),
        ("MAIL TO:<a@b.test>", 501),
        ("MAIL FROM:<no-at>", 501),
        ("MAIL FROM:<käthe@b.test>", 553),
        ("MAIL FROM:<käthe@b.test> SMTPUTF8", 250),
        ("MAIL FROM:<a@b.test> SIZE=1000 BODY=8BITMIME", 250),
        ("MAIL FROM:<a@b.test> SIZE=99999999999", 552),
        ("MAIL FROM:<a@b.test> RET=HDRS", 555),
    ],
)
def test_a_sender_is_judged(tmp_path: Path, command: str, code: int) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        assert await talk.say(command) == code

    talk_through(tmp_path, scenario)


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: no From\r\nDate: x\r\n\r\n",
        b"From: a@b.test\r\n\r\nno Date\r\n",
        b"no header at all\r\n\r\nx\r\n",
        CONTENT + b"bare\nline feed\r\n",
        CONTENT + b"bare\rcarriage return\r\n",
        CONTENT + b"x" * 999 + b"\r\n",
        CONTENT + "é\r\n".encode(),
        b"Subject: two\r\n" + CONTENT,
        "X-A: é\r\n".encode() + CONTENT,
    ],
)
def test_a_content_that_is_not_sound_is_refused(tmp_path: Path, content: bytes) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        assert (await talk.send(content))[0] == 554
        assert served.ledger("smtp") == []
        assert (await talk.send())[0] == 250

    talk_through(tmp_path, scenario)


def test_8_bit_content_needs_to_be_announced(tmp_path: Path) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        assert (await talk.send(CONTENT + "é\r\n".encode(), options=" BODY=8BITMIME"))[0] == 250

    talk_through(tmp_path, scenario)


def test_recipients_are_judged_one_by_one_and_counted(tmp_path: Path) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        await talk.say("MAIL FROM:<me@brand.test>")
        told = [await talk.ask(f"RCPT TO:<{address}>") for address in ("gone@a.test", "off@b.test", "bad", "ok@a.test")]
        assert [(code, words[:5]) for code, words in told] == [(550, "5.1.1"), (550, "5.2.1"), (501, "5.1.3"), (250, "2.1.5")]
        codes = [await talk.say(f"RCPT TO:<u{n}@a.test>") for n in range(100)]
        assert codes == [250] * 99 + [452]

    talk_through(tmp_path, scenario, bad_recipients=["gone@a.test"], inactive=["@b.test"])


def test_those_who_must_log_in_do_so_once_and_well(tmp_path: Path) -> None:
    def login(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        assert await talk.say("MAIL FROM:<a@b.test>") == 530
        for response in (login("\0ann\0wrong"), "not base64!", login("no zeros")):
            assert await talk.say(f"AUTH PLAIN {response}") in (535, 501)
        assert await talk.say("AUTH CRAM-MD5") == 504
        assert [await talk.say("AUTH LOGIN"), await talk.say(login("ann")), await talk.say(login("secret"))] == [334, 334, 235]
        assert (await talk.send())[0] == 250

    talk_through(tmp_path, scenario, key="ann:secret")


@pytest.mark.parametrize(
    ("traits", "command", "code"),
    [
        ({"has_credits": False}, "MAIL FROM:<a@b.test>", 451),
        ({"sender_domains": ["other.test"]}, "MAIL FROM:<a@b.test>", 550),
        ({"down": True}, None, 421),
    ],
)
def test_an_account_that_may_not_send_is_told_why(tmp_path: Path, traits: dict[str, Any], command: str | None, code: int) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        if command is None:
            assert (await talk.hear())[0] == code
        else:
            await talk.begin()
            assert await talk.say(command) == code

    talk_through(tmp_path, scenario, **traits)


DEEDS = [
    ("ok", b"250", 1),
    ("error_before", b"451", 0),
    ("answer", b"418", 0),
    ("redirect", b"354", 0),
    ("malformed", b"2?0", 1),
    ("cut", b"250", 1),
    ("huge", b"250", 1),
    ("drip", b"250", 1),
    ("drip_headers", b"250", 1),
    ("reset_before", b"", 0),
    ("reset_after", b"", 1),
    ("error_after", b"", 1),
    ("hang_before", b"", 0),
    ("hang_after", b"", 1),
    # these two refuse the envelope
    ("throttle", b"454", 0),
    ("partial", b"550", 0),
]


@pytest.mark.parametrize(("deed", "reply", "taken"), DEEDS)
def test_a_deed_has_its_reply_and_its_truth(tmp_path: Path, deed: str, reply: bytes, taken: int) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        for command in ("MAIL FROM:<me@brand.test>", "RCPT TO:<ann@a.test>", "DATA"):
            code = await talk.say(command)
            if code >= 400:
                break
        if deed in ("throttle", "partial"):
            assert b"%d" % code == reply
        else:
            talk.writer.write(CONTENT + b".\r\n")
            try:
                start = await asyncio.wait_for(talk.reader.readexactly(3), LIMIT_S)
            except (ConnectionResetError, asyncio.IncompleteReadError):
                start = b""
            assert start == reply
        assert len(served.ledger("smtp")) == taken
        assert (await served.control(esp="smtp"))["smtp"]["done"] == {deed: 1}

    step = {"do": deed, **({"status": 418, "body": "5.5.0 no coffee"} if deed == "answer" else {})}
    talk_through(tmp_path, scenario, script=[step], drip_interval_s=0.01, hang_s=0.05, huge_bytes=100_000)


def test_a_relay_takes_so_many_mails_a_connection(tmp_path: Path) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        for _ in range(3):
            assert (await talk.send())[0] == 250
        assert await talk.say("MAIL FROM:<me@brand.test>") == 421
        assert await talk.reader.read() == b""
        async with talking(served) as other:
            await other.begin()
            assert (await other.send())[0] == 250
        assert len(served.ledger("smtp")) == 4

    talk_through(tmp_path, scenario, mails_per_connection=3)


def test_a_relay_is_as_strict_as_sparkposts_unless_told_otherwise(tmp_path: Path) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        limits = (await served.control(esp="smtp", calm=True))["smtp"]
        assert (limits["mails_per_connection"], limits["idle_s"], limits["connections"]) == (100, 60, 0)
        await talk.begin()
        codes = [(await talk.send())[0] for _ in range(100)]
        assert set(codes) == {250}
        assert await talk.say("MAIL FROM:<me@brand.test>") == 421

    talk_through(tmp_path, scenario)


def test_a_relay_takes_so_many_connections_at_once(tmp_path: Path) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        async with talking(served) as second:
            assert (await second.hear())[0] == 220
            async with talking(served) as third:
                assert (await third.hear())[0] == 421
                assert await third.reader.read() == b""
            assert await second.say("QUIT") == 221
            assert await second.reader.read() == b""
        async with talking(served) as fourth:
            assert (await fourth.hear())[0] == 220

    talk_through(tmp_path, scenario, connections=2)


def test_a_relay_hangs_up_on_who_says_nothing_for_long(tmp_path: Path) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        assert (await talk.hear())[0] == 421
        assert await talk.reader.read() == b""

    talk_through(tmp_path, scenario, idle_s=0.2)


def test_a_rate_throttles_at_the_sender_command(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path, lambda: 1_800_000_000.0, smtp={"requests_per_s": 1}) as served, talking(served) as talk:
            await talk.begin()
            codes = []
            for _ in range(3):
                codes += [await talk.say("MAIL FROM:<me@brand.test>"), await talk.say("RSET")]
            assert codes == [250, 250, 454, 250, 454, 250]

    asyncio.run(run())


def test_a_reset_before_the_content_comes_at_the_first_word_of_the_mail(tmp_path: Path) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await talk.say("MAIL FROM:<me@brand.test>")
        assert served.ledger("smtp") == []

    talk_through(tmp_path, scenario, script=["reset_unread"])


def test_a_mail_over_the_limit_is_refused_when_it_is_whole(tmp_path: Path) -> None:
    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        line = b"x" * 900 + b"\r\n"
        assert (await talk.send(CONTENT + line * (25 * 1024 * 1024 // len(line) + 1)))[0] == 552
        assert served.ledger("smtp") == []
        assert (await talk.send())[0] == 250

    talk_through(tmp_path, scenario)


def test_the_inbox_shows_attachments(tmp_path: Path) -> None:
    mixed = (
        CONTENT.split(b"\r\n\r\n")[0] + b'\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>h</p>\r\n"
        b'--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="a.pdf"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\nYWJj\r\n--b--\r\n"
    )

    async def scenario(served: Served, talk: Talk) -> None:
        await talk.begin()
        assert (await talk.send(mixed))[0] == 250
        content = (await served.inbox("/api/mails/1"))["content"]
        assert content["html"].strip() == "<p>h</p>"
        assert orjson.dumps(content["attachments"]).count(b'"a.pdf"') == 1

    talk_through(tmp_path, scenario)
