"""The exchange: opened attempts go out through their accounts, and every message comes back with an outcome.

Marks every request in the flight log on its way: prepared before the attempts are opened, leaving right before its first byte,
answered with its outcomes. It never sends anything twice: what an ESP refused because of a neighbour goes again only after the
ESP has said so, in ever smaller company.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import telemetry.log
from esp.base import Esp
from esp.exchange import Exchange
from mail.account import Account
from mail.message import Message
from mail.outcome import Blame, NoReply, Outcome, Reply, Request, Verdict
from telemetry import metrics
from workers.failpoints import Failpoints
from workers.flight.flight_log import FlightLog

log = telemetry.log.get("workers.steps.sending")


class Departure(NamedTuple):
    """A request that may leave, and where the flight log notes it."""

    account: Account
    esp: Esp
    request: Request
    handle: int


class Sender:
    """`may_send` is asked right before each request leaves (shared.Permit); False holds it back, unsent.
    `note` is told the outcomes of each request, for the account's breaker. `is_failing` asks that breaker: where it opens while
    requests wait their turn, they are held back, too, and do not run into the same wall one after the other. So is what could not
    begin within `begin_within_s`: hundreds of requests that each end at their deadline must not make a batch endless."""

    def __init__(
        self,
        load: Callable[[Account], Esp],
        exchange: Exchange,
        flight_log: FlightLog,
        may_send: Callable[[], bool],
        failpoints: Failpoints,
        note: Callable[[Account, Iterable[Outcome]], None],
        clock: Callable[[], float] = time.monotonic,
        is_failing: Callable[[Account], bool] = lambda account: False,
        begin_within_s: float = math.inf,
    ):
        self._load = load
        self._exchange = exchange
        self._flight_log = flight_log
        self._may_send = may_send
        self._failpoints = failpoints
        self._note = note
        self._clock = clock
        self._is_failing = is_failing
        self._begin_within_s = begin_within_s

    def unsupported(self, account: Account, message: Message) -> str | None:
        """Why this account's ESP cannot express the message, or None."""
        return self._load(account).unsupported(message)

    def prepare(self, account: Account, messages: Sequence[Message]) -> list[Departure]:
        """Group messages into requests and note them as prepared. Call it before their attempts are opened."""
        esp = self._load(account)
        requests = esp.prepare(messages)
        return [Departure(account, esp, r, self._flight_log.prepare([m.attempt_id for m in r.messages])) for r in requests]

    def send(self, departures: Sequence[Departure]) -> Iterator[Outcome]:
        """Send the requests, several at once; yields an outcome for every message, as they come."""
        until_s = self._clock() + self._begin_within_s
        while departures:
            again: list[Departure] = []
            for departure, outcomes in self._fly(departures, until_s):
                yield from (o for o in outcomes if o.verdict is not Verdict.SPLIT)
                again += self._split(departure, outcomes)
            departures = again

    def _fly(self, departures: Sequence[Departure], until_s: float) -> Iterator[tuple[Departure, list[Outcome]]]:
        by_request = {id(departure.request): departure for departure in departures}
        probes = {id(d.request) for d in departures if self._is_failing(d.account)}  # these are to find out
        started: dict[int, float] = {}
        held: set[int] = set()

        def may_begin(request: Request) -> bool:
            is_walled = id(request) not in probes and self._is_failing(by_request[id(request)].account)
            if is_walled or self._clock() > until_s:
                held.add(id(request))
            return id(request) not in held

        def on_leaving(request: Request) -> bool:
            if not self._may_send():
                held.add(id(request))
                return False
            self._flight_log.mark_leaving(by_request[id(request)].handle)
            started[id(request)] = self._clock()
            self._failpoints.hit("leaving")
            return True

        for request, reply in self._exchange.send_all([d.request for d in departures], on_leaving, may_begin):
            departure = by_request[id(request)]
            outcomes = self._interpret(departure, reply)
            self._flight_log.answer(departure.handle, outcomes)
            self._failpoints.hit("answered")
            if id(request) not in held:  # what we hold back is not the ESP's failure
                self._note(departure.account, outcomes)
            if id(request) in started:
                elapsed_s = self._clock() - started[id(request)]
                metrics.SEND_DURATION_SECONDS.labels(departure.account.provider).observe(elapsed_s)
            yield departure, outcomes

    def _interpret(self, departure: Departure, reply: Reply | NoReply) -> list[Outcome]:
        outcomes = departure.esp.interpret(departure.request, reply)
        sent, spoken = [m.attempt_id for m in departure.request.messages], [o.attempt_id for o in outcomes]
        is_endless = len(sent) == 1 and Verdict.SPLIT in [o.verdict for o in outcomes]  # a mail alone has no neighbour
        if sent != spoken or is_endless:  # an adapter's bug must not lose or double a message, nor send it for ever
            log.error("the adapter misread a reply", provider=departure.account.provider, sent=len(sent), spoken=len(spoken))
            return [Outcome(i, Verdict.UNKNOWN, Blame.US, detail="the reply could not be matched with the messages") for i in sent]
        return outcomes

    def _split(self, departure: Departure, outcomes: Sequence[Outcome]) -> list[Departure]:
        """New requests for the messages that were refused because of a neighbour: all of them where it was named, else two halves."""
        messages = {m.attempt_id: m for m in departure.request.messages}
        rest = [messages[o.attempt_id] for o in outcomes if o.verdict is Verdict.SPLIT]
        if not rest:
            return []
        if len(rest) < len(outcomes):
            return self.prepare(departure.account, rest)
        half = (len(rest) + 1) // 2
        return self.prepare(departure.account, rest[:half]) + self.prepare(departure.account, rest[half:])
