"""The server's side of RFC 5321, with STARTTLS and AUTH: one connection of the fake relay, and its misbehaviour on the socket.

What happens to a mail is drawn at its MAIL command. It must never take a mail twice, nor reply before the mail is written down.
"""

import asyncio
import binascii
import contextlib
import re
import socket
import ssl
import struct
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sandbox.fakes.contract import Answer, Call
from sandbox.fakes.misbehaviour import Deed, Misbehaviour
from sandbox.fakes.smtp import Fake

MOST_LINE_BYTES = 1024 * 1024
_MOST_COMMAND_BYTES = 512 + 12_288  # RFC 5321, 4.5.3.1.4, and an AUTH with its response (RFC 4954, 4)
_PATH = re.compile(r"(FROM|TO):<([^<>]*)>((?: [^ ]+)*)", re.IGNORECASE)
_MOST_UNSAID_BYTES = 64 * 1024
_BEFORE = {"throttle", "error_before", "hang_before", "reset_before", "answer", "redirect"}


class HungUp(Exception):
    """This connection is over."""


@dataclass(slots=True)
class Envelope:
    """The mail that is being talked about."""

    deed: Deed
    sender: str
    body: str = "7BIT"
    is_utf8: bool = False
    recipients: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class House:
    """What all connections of a relay share. `take` judges a mail and writes down what was taken."""

    fake: Fake
    misbehaviour: Misbehaviour
    tls: ssl.SSLContext | None
    take: Callable[[Call], Answer]
    clock: Callable[[], float]


class Talk:
    """One connection: what has been said so far decides what may be said next."""

    def __init__(self, house: House, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._house = house
        self._fake = house.fake
        self._reader = reader
        self._writer = writer
        self._unsaid = bytearray()
        self._is_secure = writer.get_extra_info("ssl_object") is not None
        self._is_known = False
        self._is_logged_in = False
        self._mails = 0
        self._envelope: Envelope | None = None
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def turn_away(self) -> None:
        """This connection is one too many."""
        await self._say(Answer(421, b"4.7.0 Error: too many connections from 127.0.0.1"))

    async def run(self) -> None:
        if self._house.misbehaviour.behaviour.down:
            await self._say(self._fake.refuse(421))
            return
        await self._say(Answer(220, b"relay.sandbox.test ESMTP"))
        while True:
            verb, _, rest = (await self._line()).partition(" ")
            command = self._commands.get(verb.upper())
            if command is None:
                await self._say(Answer(500, b"5.5.2 Error: command not recognized"))
            else:
                await command(rest)

    def flush(self) -> None:
        """Let out what has been said, if the other side is still there."""
        if self._unsaid and not self._writer.is_closing():
            self._writer.write(bytes(self._unsaid))
        self._unsaid.clear()

    async def _ehlo(self, rest: str) -> None:
        if not rest.strip():
            await self._say(Answer(501, b"Syntax: EHLO hostname"))
            return
        self._is_known, self._envelope = True, None
        offers = ["relay.sandbox.test", f"SIZE {self._fake.max_body_bytes}", "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self._house.tls and not self._is_secure:
            offers.append("STARTTLS")
        else:
            offers.append("AUTH PLAIN LOGIN")
        lines = [f"250-{offer}" for offer in offers[:-1]] + [f"250 {offers[-1]}"]
        await self._write("".join(f"{line}\r\n" for line in lines).encode())

    async def _helo(self, rest: str) -> None:
        self._is_known, self._envelope = True, None
        await self._say(Answer(250, b"relay.sandbox.test"))

    async def _starttls(self, rest: str) -> None:
        if not self._house.tls or self._is_secure:
            await self._say(Answer(502, b"5.5.1 Error: command not implemented"))
            return
        await self._say(Answer(220, b"2.0.0 Ready to start TLS"))
        self.flush()
        await self._writer.start_tls(self._house.tls)
        self._is_secure, self._is_known = True, False

    async def _auth(self, rest: str) -> None:
        mechanism, _, response = rest.partition(" ")
        if self._house.tls and not self._is_secure:
            await self._say(Answer(530, b"5.7.0 Must issue a STARTTLS command first"))
            return
        try:
            if mechanism.upper() == "PLAIN":
                _, username, password = _plain(response or await self._ask(b"")).split("\0")
            elif mechanism.upper() == "LOGIN":
                username, password = _plain(await self._ask(b"VXNlcm5hbWU6")), _plain(await self._ask(b"UGFzc3dvcmQ6"))
            else:
                await self._say(Answer(504, b"5.5.4 Unrecognized authentication type"))
                return
        except ValueError:  # binascii.Error and UnicodeDecodeError are among them
            await self._say(Answer(501, b"5.5.2 Cannot decode response"))
            return
        answer = self._fake.judge_login(username, password, self._house.misbehaviour.traits)
        self._is_logged_in = answer.status == 235
        await self._say(answer)

    async def _mail(self, rest: str) -> None:
        found = _PATH.fullmatch(rest)
        if not self._is_known or self._envelope:
            await self._say(Answer(503, b"5.5.1 Error: send EHLO first" if not self._is_known else b"5.5.1 Error: nested MAIL command"))
        elif not found or found[1].upper() != "FROM":
            await self._say(Answer(501, b"5.5.4 Syntax: MAIL FROM:<address>"))
        elif self._house.misbehaviour.behaviour.down:
            await self._say(self._fake.refuse(421))
            raise HungUp
        elif self._mails and self._mails == self._house.misbehaviour.behaviour.mails_per_connection:
            await self._say(Answer(421, b"4.7.0 Error: too many messages in this connection"))
            raise HungUp
        else:
            await self._begin(found[2], found[3].split())

    async def _begin(self, sender: str, parameters: list[str]) -> None:
        envelope = Envelope(self._house.misbehaviour.next_deed(self._house.clock()), sender)
        if envelope.deed.kind == "reset_unread":
            self._reset()
        refusal = self._fake.refuse(429) if envelope.deed.kind == "throttle" else self._read_parameters(envelope, parameters)
        if refusal is None:
            traits = self._house.misbehaviour.traits
            refusal = self._fake.judge_sender(sender, self._is_logged_in, envelope.is_utf8, traits)
        if refusal.status == 250:
            self._envelope = envelope
            self._mails += 1
        await self._say(refusal)

    def _read_parameters(self, envelope: Envelope, parameters: list[str]) -> Answer | None:
        for parameter in parameters:
            name, _, value = parameter.upper().partition("=")
            if name == "SIZE" and value.isdigit():
                if int(value) > self._fake.max_body_bytes:
                    return self._fake.refuse(552)
            elif name == "BODY" and value in ("7BIT", "8BITMIME"):
                envelope.body = value
            elif name == "SMTPUTF8" and not value:
                envelope.is_utf8 = True
            else:
                return Answer(555, b"5.5.4 Unsupported option: " + parameter.encode("ascii", "replace"))
        return None

    async def _rcpt(self, rest: str) -> None:
        found, envelope = _PATH.fullmatch(rest), self._envelope
        if envelope is None:
            await self._say(Answer(503, b"5.5.1 Error: need MAIL command"))
        elif not found or found[1].upper() != "TO" or found[3]:
            await self._say(Answer(501, b"5.5.4 Syntax: RCPT TO:<address>"))
        elif envelope.deed.is_spoiled(0) and not envelope.recipients:
            await self._say(Answer(550, b"5.1.1 Recipient address rejected: User unknown"))
        else:
            traits = self._house.misbehaviour.traits
            answer = self._fake.judge_recipient(found[2], len(envelope.recipients), envelope.is_utf8, traits)
            if answer.status == 250:
                envelope.recipients.append(found[2])
            await self._say(answer)

    async def _data(self, rest: str) -> None:
        envelope = self._envelope
        if rest:
            await self._say(Answer(501, b"5.5.4 Syntax: DATA"))
        elif envelope is None or not envelope.recipients:
            await self._say(Answer(503, b"5.5.1 Error: need RCPT command"))
        else:
            await self._say(Answer(354, b"End data with <CR><LF>.<CR><LF>"))
            content = await self._content()
            self._envelope = None
            await self._end(envelope, content)

    async def _content(self) -> bytes | None:
        """What comes before the final dot, without the doubled dots; None where it is over the limit."""
        stuffed = bytearray(b"\r\n")  # the end of the line with DATA: an empty content is a dot alone
        size = 0
        while not stuffed.endswith(b"\r\n.\r\n"):
            piece = await self._piece(b".\r\n")
            size += len(piece)
            stuffed += piece
            if size > self._fake.max_body_bytes:
                del stuffed[:-5]
        return bytes(stuffed[2:-3].replace(b"\n.", b"\n").removeprefix(b".")) if size <= self._fake.max_body_bytes else None

    async def _piece(self, end: bytes) -> bytes:
        """Up to an `end`, or as much as the reader holds without one."""
        try:
            return await self._reader.readuntil(end)
        except asyncio.LimitOverrunError as overrun:
            return await self._reader.readexactly(overrun.consumed)

    async def _end(self, envelope: Envelope, content: bytes | None) -> None:
        deed, came_s = envelope.deed, time.monotonic()
        if content is None:
            answer = self._fake.refuse(552)
        elif deed.kind in _BEFORE:
            answer = _before(deed, self._fake)
        else:
            headers = {"mail-from": envelope.sender, "rcpt-to": "\n".join(envelope.recipients), "body": envelope.body}
            headers["smtputf8"] = "yes" if envelope.is_utf8 else "no"
            answer = self._house.take(Call("DATA", "", headers, content, self._house.misbehaviour.traits))
        if delay_s := self._house.misbehaviour.delay_s(time.monotonic() - came_s):
            await asyncio.sleep(delay_s)
        await self._deliver(deed, answer)

    async def _deliver(self, deed: Deed, answer: Answer) -> None:
        raw = b"%d %b\r\n" % (answer.status, answer.body)
        if deed.kind in ("hang_before", "hang_after"):
            await self._hang()
        elif deed.kind in ("reset_before", "reset_after", "error_after"):
            self._reset()
        elif deed.kind in ("drip", "drip_headers"):
            for place in range(len(raw)):
                await asyncio.sleep(self._house.misbehaviour.behaviour.drip_interval_s)
                await self._write(raw[place : place + 1])
        elif deed.kind == "malformed":
            await self._write(b"2?0 what was the question\r\n")
        elif deed.kind == "cut":
            await self._write(raw[: len(raw) // 2])
            raise HungUp
        elif deed.kind == "huge":
            await self._flood()
        else:
            await self._write(raw)

    async def _flood(self) -> None:
        """A reply whose last line never comes."""
        line = b"250-and another thing\r\n"
        for _ in range(self._house.misbehaviour.behaviour.huge_bytes // len(line)):
            await self._write(line)
        raise HungUp

    async def _hang(self) -> None:
        """Say nothing until the sender gives up or the set time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reader.read(1), self._house.misbehaviour.behaviour.hang_s)
        self._reset()

    def _reset(self) -> None:
        """A real RST: zero linger makes the kernel send one instead of a polite end."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise HungUp

    async def _rset(self, rest: str) -> None:
        self._envelope = None
        await self._say(Answer(250, b"2.0.0 Ok"))

    async def _noop(self, rest: str) -> None:
        await self._say(Answer(250, b"2.0.0 Ok"))

    async def _quit(self, rest: str) -> None:
        await self._say(Answer(221, b"2.0.0 Bye"))
        raise HungUp

    async def _ask(self, challenge: bytes) -> str:
        await self._say(Answer(334, challenge))
        return await self._line()

    async def _line(self) -> str:
        try:
            async with asyncio.timeout(self._house.misbehaviour.behaviour.idle_s or None):
                line = await self._reader.readuntil(b"\n")
        except TimeoutError:
            await self._say(Answer(421, b"4.4.2 Error: timeout exceeded"))
            raise HungUp from None
        if len(line) > _MOST_COMMAND_BYTES or not line.endswith(b"\r\n"):
            await self._say(Answer(500, b"5.5.2 Error: bad line"))
            raise HungUp
        return line[:-2].decode("utf-8", "replace")

    async def _say(self, answer: Answer) -> None:
        await self._write(b"%d %b\r\n" % (answer.status, answer.body))

    async def _write(self, data: bytes) -> None:
        """Replies to commands that came together leave together (RFC 2920, 3.2): as soon as nothing more is at hand to be answered."""
        if self._writer.is_closing():
            raise HungUp
        if not self._unsaid:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsaid += data
        if len(self._unsaid) > _MOST_UNSAID_BYTES:
            self.flush()
        await self._writer.drain()


def _before(deed: Deed, fake: Fake) -> Answer:
    """The reply of a deed that takes nothing."""
    if deed.kind == "answer":
        return Answer(deed.status, deed.body)
    if deed.kind == "redirect":
        return Answer(354, b"Go on")
    return fake.refuse(deed.status)


def _plain(response: str) -> str:
    try:
        return b64decode(response.encode(), validate=True).decode()
    except binascii.Error:
        raise ValueError("not base64") from None
