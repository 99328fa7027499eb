"""One SMTP connection, from its greeting to the reply after the final dot (RFC 5321, 2920, 3207, 4954, 6531, 9422).

Of smtplib it uses how commands are written and EHLO is read. It must never take a plain text for a secured one, never write a
byte of the content before the call allows it, and never wait for a reply without end.
"""

import re
import smtplib
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence

from esp.call import Call
from mail.outcome import Reply, Request

CLOSING_DOWN = 421
_MOST_REPLY_LINES = 100
_LONGEST_REPLY_LINE = 4_096


class Refused(Exception):
    """The server said no, at a stage before the content: nothing was taken."""

    def __init__(self, stage: str, code: int, words: bytes):
        super().__init__(stage, code)
        self.stage = stage
        self.code = code
        self.words = words

    def reply(self) -> Reply:
        return reply_of(self.stage, self.code, self.words)


class Client(smtplib.SMTP):
    """A connection that its calls can cut off. `carried` counts the mails it has had, `rested_at_s` is when the last was answered,
    `has_begun` tells whether the server has taken up the present one: another connection may carry it as long as it has not.
    """

    def __init__(self, timeout_s: float):
        super().__init__(local_hostname=_own_name(), timeout=timeout_s)
        self.carried = 0
        self.rested_at_s = 0.0
        self.has_begun = False
        self._dial: Callable[[str, int], socket.socket] | None = None

    def open(self, request: Request, dial: Callable[[str, int], socket.socket], host: str, port: int, tls: ssl.SSLContext) -> None:
        """Connect, secure and log in as the request's headers say. Raises Refused, or OSError."""
        wishes = request.headers
        encryption = wishes.get("encryption", "starttls")
        self._dial = (lambda h, p: tls.wrap_socket(dial(h, p), server_hostname=h)) if encryption == "tls" else dial
        _expect("greeting", 220, self.connect(host, port))
        self._greet()
        if encryption not in ("tls", "none"):
            self._secure(tls, host)
            self._greet()
        if wishes.get("username"):
            self._log_in(wishes["username"], wishes.get("password", ""))

    def carry(self, call: Call) -> Reply:
        """Send one mail; the reply to its final dot. Raises Refused before the content, OSError where nobody answers."""
        request = call.request
        self.has_begun = False
        self.command_encoding = "ascii" if request.headers.get("smtputf8") != "yes" else "utf-8"
        refused = self._begin(request)
        call.leave()
        self.send(_stuffed(request.body) + b".\r\n")
        code, words = self.getreply()
        self.note_rest()
        return reply_of("end", code, words, {"refused": str(refused)} if refused else {})

    def ask_noop(self, call: Call) -> Reply:
        """A question after which nothing is different: does the server answer those who are logged in?"""
        self.has_begun = True
        call.leave()
        code, words = self.docmd("NOOP")
        self.note_rest()
        return reply_of("noop", code, words)

    def limit(self, name: str) -> int | None:
        """What the server says it takes at most (RFC 9422): MAILMAX of a connection, RCPTMAX of a mail."""
        found = re.search(rf"\b{name}=([1-9][0-9]{{0,5}})\b", self.esmtp_features.get("limits", "").upper())
        return int(found[1]) if found else None

    def note_rest(self) -> None:
        self.carried += 1
        self.rested_at_s = time.monotonic()

    def is_ready_again(self) -> bool:
        """Whether the server has forgotten the last mail and would take another."""
        try:
            return self.docmd("RSET")[0] == 250
        except OSError:
            return False

    def part(self) -> None:
        """Say good-bye without waiting for an answer."""
        try:
            self.putcmd("quit")
        except OSError:
            pass  # it is gone already
        self.close()

    def getreply(self) -> tuple[int, bytes]:
        """A reply whole, its lines joined by line feeds; code -1 where it is none. smtplib's own would read for ever."""
        if self.file is None:
            assert self.sock is not None
            self.file = self.sock.makefile("rb")
        lines: list[bytes] = []
        while len(lines) < _MOST_REPLY_LINES:
            line = self.file.readline(_LONGEST_REPLY_LINE)
            if not line.endswith(b"\n"):
                self.close()
                raise smtplib.SMTPServerDisconnected("the connection ended within a reply, or its line has no end")
            lines.append(line[4:].strip(b" \t\r\n"))
            code = int(line[:3]) if line[:3].isdigit() else -1
            if code == -1 or line[3:4] != b"-":
                return code, b"\n".join(lines)
        self.close()
        raise smtplib.SMTPServerDisconnected("the reply has no end")

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        assert self._dial is not None
        return self._dial(host, port)

    def _greet(self) -> None:
        code, words = self.ehlo()
        if code != 250:
            code, words = self.helo()
        _expect("greeting", 250, (code, words))

    def _secure(self, tls: ssl.SSLContext, host: str) -> None:
        if not self.has_extn("starttls"):
            raise Refused("starttls", 502, b"the server does not offer STARTTLS")
        _expect("starttls", 220, self.docmd("STARTTLS"))
        assert self.sock is not None
        self.sock = tls.wrap_socket(self.sock, server_hostname=host)
        self.file = None  # what came in plain behind the 220 is an intruder's (CVE-2011-0411)
        self.ehlo_resp = None
        self.esmtp_features = {}

    def _log_in(self, username: str, password: str) -> None:
        """One try with one mechanism; smtplib would try them all, in ASCII only."""
        offered = self.esmtp_features.get("auth", "").upper().split()
        if "PLAIN" in offered:
            answer = self.docmd("AUTH", f"PLAIN {_base64(f'{chr(0)}{username}{chr(0)}{password}')}")
        elif "LOGIN" in offered:
            answer = self.docmd("AUTH", "LOGIN")
            for secret in (username, password):
                answer = self.docmd(_base64(secret)) if answer[0] == 334 else answer
        else:
            answer = (504, b"the server offers neither AUTH PLAIN nor LOGIN")
        _expect("auth", 235, answer)

    def _options(self, request: Request) -> str:
        """What MAIL FROM says of the content; raises Refused where the server cannot take it."""
        most_recipients = self.limit("RCPTMAX")
        if most_recipients and request.headers["rcpt-to"].count("\n") >= most_recipients:
            raise Refused("extension", 554, f"the server takes {most_recipients} recipients a mail".encode())
        most = self.esmtp_features.get("size", "")
        if most.isdigit() and 0 < int(most) < len(request.body):
            raise Refused("extension", 552, f"the server takes {most} bytes a mail".encode())
        options = f" SIZE={len(request.body)}" if self.has_extn("size") else ""
        if request.headers.get("smtputf8") == "yes":
            if not self.has_extn("smtputf8"):
                raise Refused("extension", 553, b"the server does not offer SMTPUTF8")
            options += " SMTPUTF8"
        if not request.body.isascii():
            if not self.has_extn("8bitmime"):
                raise Refused("extension", 554, b"the server does not offer 8BITMIME")
            options += " BODY=8BITMIME"
        return options

    def _begin(self, request: Request) -> int:
        """Name sender and recipients and ask for the content's turn; how many of the other recipients are refused for good."""
        recipients = request.headers["rcpt-to"].split("\n")
        commands = [f"MAIL FROM:<{request.headers['mail-from']}>{self._options(request)}"]
        answers = self._answers([*commands, *[f"RCPT TO:<{recipient}>" for recipient in recipients], "DATA"])
        try:
            first = next(answers)
            self.has_begun = first[0] != CLOSING_DOWN
            _expect("mail", 250, first)
            refused = [not _is_taken(next(answers), is_first=place == 0) for place in range(len(recipients))]
            _expect("data", 354, next(answers))
        except Refused as refused_all:
            if refused_all.code == CLOSING_DOWN:
                self.close()  # it says nothing more
            else:
                self._abandon(answers)
            raise
        return sum(refused)

    def _answers(self, commands: Sequence[str]) -> Iterator[tuple[int, bytes]]:
        """The reply to each command. All of them leave together where the server reads on (PIPELINING, RFC 2920), else each after
        the reply before it.
        """
        if not self.has_extn("pipelining"):
            yield from (self.docmd(command) for command in commands)
            return
        self.send("".join([_line(command) for command in commands]))
        yield from (self.getreply() for _ in commands)

    def _abandon(self, answers: Iterator[tuple[int, bytes]]) -> None:
        """Hear the server out after a no. Where it waits for a content all the same, only hanging up says that none will come: a
        dot would send an empty mail to those whom it has taken.
        """
        if not self.has_extn("pipelining"):
            return
        try:
            if 354 in [code for code, _ in answers]:
                self.close()
        except OSError:
            self.close()


def reply_of(stage: str, code: int, words: bytes, more: Mapping[str, str] | None = None) -> Reply:
    """A server's words as a reply: the status is the SMTP code, the header `stage` says which command it answers."""
    return Reply(code, {"stage": stage, **(more or {})}, words)


def _expect(stage: str, wanted: int, answer: tuple[int, bytes]) -> None:
    if answer[0] != wanted:
        raise Refused(stage, *answer)


def _line(command: str) -> str:
    """A command as it travels; raises ValueError where it would be more than one, as smtplib's own way of sending does."""
    if "\r" in command or "\n" in command:
        raise ValueError("a line end within a command")
    return f"{command}\r\n"


def _is_taken(answer: tuple[int, bytes], is_first: bool) -> bool:
    """Whether the server takes a recipient. The first must be taken, and a no for now holds for the whole mail: to send to the
    others only would lose one who may be reached later.
    """
    code, words = answer
    if not is_first and 500 <= code < 600:
        return False
    if not 250 <= code <= 252:
        raise Refused("rcpt", code, words)
    return True


def _stuffed(body: bytes) -> bytes:
    """The content with a second dot before each line that begins with one (RFC 5321, 4.5.2), and with an end of line."""
    stuffed = body.replace(b"\r\n.", b"\r\n..")
    end = b"" if stuffed.endswith(b"\r\n") else b"\r\n"
    return (b"." if stuffed.startswith(b".") else b"") + stuffed + end


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _own_name() -> str:
    """What EHLO says: our full name, else an address literal. smtplib would ask the DNS, which may hang."""
    name = socket.gethostname()
    return name if "." in name and name.isascii() else "[127.0.0.1]"
