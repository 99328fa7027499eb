"""Mail exchangers by DNS: who is behind domains that the table of mailbox providers does not know. The keeper asks, where the setting
MX_LOOKUPS allows it, since whoever can send us a job chooses the domains.

It must never keep the keeper for longer than BUDGET_S: the host's lease is renewed by the same loop.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from db.mailbox_domains import Found
from routing.mailbox_provider import OTHER, mailbox_provider_of_exchanger

BUDGET_S, ANSWER_LIMIT_S = 5.0, 2.0
DOMAINS_MOST = 50  # in one go
KNOWN_FOR_S, UNANSWERED_FOR_S = 30 * 86_400.0, 3_600.0
_NO_SUCH = (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer)


class Exchangers:
    """`resolver` None = the one that the machine is set up with."""

    def __init__(self, resolver: dns.resolver.Resolver | None = None, clock: Callable[[], float] = time.monotonic):
        self._resolver = resolver
        self._clock = clock

    def look_up(self, domains: Sequence[str]) -> Iterator[Found]:
        """What is behind these domains, as far as the time reaches. One that gets no answer is left in peace for an hour."""
        until_s = self._clock() + BUDGET_S
        for domain in domains:
            if self._clock() < until_s:
                yield self._look_up(domain)

    def _look_up(self, domain: str) -> Found:
        try:
            answer = self._resolve(domain)
        except _NO_SUCH:
            return Found(domain, OTHER, "", KNOWN_FOR_S)
        except (dns.exception.DNSException, UnicodeError, OSError):  # no answer, or nothing that can be asked for
            return Found(domain, OTHER, "", UNANSWERED_FOR_S)
        best = min(answer, key=lambda record: (record.preference, record.exchange))
        host = best.exchange.to_text(omit_final_dot=True).lower().strip(".")  # "." alone says that nobody takes mail
        return Found(domain, mailbox_provider_of_exchanger(host), host[:255], KNOWN_FOR_S)

    def _resolve(self, domain: str) -> dns.resolver.Answer:
        if self._resolver is None:
            self._resolver = dns.resolver.Resolver()
        name = dns.name.from_text(domain)  # from the root: the machine's search list is not for other people's names
        return self._resolver.resolve(name, dns.rdatatype.MX, lifetime=ANSWER_LIMIT_S, search=False)
