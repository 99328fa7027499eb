"""One loopback listener for the fake relay.

The order is the promise: ledger, then mailbox, then the first byte of the reply to the final dot. Nothing may await between the
judgement and the ledger.
"""

import asyncio
import ssl
import time
from collections.abc import Callable

from sandbox.fakes.contract import Answer, Call
from sandbox.fakes.ledger import Ledger
from sandbox.fakes.mailbox import Mailbox
from sandbox.fakes.misbehaviour import Misbehaviour
from sandbox.fakes.smtp import Fake
from sandbox.fakes.smtp_talk import MOST_LINE_BYTES, House, HungUp, Talk


class SmtpListener:
    """Serves the fake on 127.0.0.1 at a port of the system's choice. With `tls` it offers STARTTLS, or speaks nothing else
    (`is_implicit`)."""

    def __init__(
        self,
        fake: Fake,
        ledger: Ledger,
        mailbox: Mailbox,
        misbehaviour: Misbehaviour,
        clock: Callable[[], float] = time.time,
        tls: ssl.SSLContext | None = None,
        is_implicit: bool = False,
    ):
        self.connections = 0
        self._fake = fake
        self._house = House(fake, misbehaviour, None if is_implicit else tls, self._take, clock)
        self._ledger = ledger
        self._mailbox = mailbox
        self._clock = clock
        self._implicit_tls = tls if is_implicit else None
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen; the URL."""
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, limit=MOST_LINE_BYTES, ssl=self._implicit_tls)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"smtp://{host}:{port}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for talk in list(self._talks):
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    def _take(self, call: Call) -> Answer:
        """Judge one mail, and write down what was taken."""
        answer = self._fake.answer(call)
        if answer.accepted:
            at = self._clock()
            number = self._ledger.append(answer.accepted, at)
            self._mailbox.put(self._fake.name, at, number, call.body, answer.accepted)
        return answer

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        self.connections += 1
        talk = Talk(self._house, reader, writer)
        try:
            most = self._house.misbehaviour.behaviour.connections
            await (talk.turn_away() if most and len(self._talks) > most else talk.run())
        except (HungUp, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it hung up, or its line has no end
        except asyncio.CancelledError:
            pass  # the listener stops
        finally:
            self._talks.discard(task)
            talk.flush()
            writer.close()
