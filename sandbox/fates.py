"""What becomes of an accepted mail: delivered or not, opened by whom, complained about, and when. Drawn, but the same for the same seed.

Rates are per ESP and mailbox provider, so that weights have something to find out. Nothing here is shared with the product
but the names of the mailbox providers.

Where the numbers come from: shares and delays of the simulation that the weights were designed on (open times: MailerMailer,
1.4 bn mails, 52 % within six hours; Apple's prefetching: 30 to 45 % of recipients).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import msgspec

from routing.mailbox_provider import mailbox_provider
from sandbox.fakes.callbacks import Happening, Kind
from sandbox.fakes.ledger import Line
from sandbox.fakes.simulators import certain_fate

Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]
FASTEST_PERSON_S = 3.0  # nobody opens sooner, however fast the world runs: a receiver takes that for a machine's
LONGEST_DELAY_S = 30 * 86_400.0
_HOUR_S = 3_600.0


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Chances of one ESP at one mailbox provider. `hard`, `soft`, `block` and `dropped` are of all mails; `deferred` of those that
    are delivered; `late` (they bounce hours later all the same), `inbox` and `machine` (fetched ahead by Apple) of the delivered
    ones; `open` and `complaint` of those in the inbox; `click` and `unsubscribe` of the opened ones.
    """

    dropped: Chance = 0.001
    hard: Chance = 0.006
    soft: Chance = 0.004
    block: Chance = 0.012
    deferred: Chance = 0.04
    late: Chance = 0.0005
    inbox: Chance = 0.88
    machine: Chance = 0.3
    open: Chance = 0.22
    click: Chance = 0.15
    complaint: Chance = 0.0003
    unsubscribe: Chance = 0.01


DEFAULT_RATES: dict[str, dict[str, float]] = {
    "*/gmail": {"block": 0.008, "inbox": 0.88, "machine": 0.3, "open": 0.24, "complaint": 0.0},
    "*/outlook": {"block": 0.02, "inbox": 0.78, "machine": 0.2, "open": 0.18, "complaint": 0.00024},
    "*/yahoo": {"block": 0.012, "inbox": 0.86, "machine": 0.35, "open": 0.22, "complaint": 0.00035},
    "*/icloud": {"machine": 0.9},
    "*/other": {"machine": 0.45, "open": 0.2, "complaint": 0.00006},
}
_PEOPLE = {
    "gmail": "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "outlook": "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Win64; x64; Microsoft Outlook 16.0.17928; ms-office)",
    "yahoo": "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
    "icloud": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
}
_ANYBODY = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0"
_BROWSER = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
_PREFETCHER = "Mozilla/5.0"
_LINK = "https://sandbox.test/offer"


class Fates:
    """`rates` lays changes over the defaults: keys are "*", "*/gmail", "sendgrid" or "sendgrid/gmail", the later in this order win.

    `speed` 3600 makes an hour pass in a second. Raises msgspec.ValidationError over rates that are none.
    """

    def __init__(self, seed: int = 1, speed: float = 1.0, rates: Mapping[str, Mapping[str, float]] | None = None):
        self._seed = seed
        self._speed = speed
        self._overlays: list[Mapping[str, Mapping[str, float]]] = [DEFAULT_RATES, rates or {}]
        self._rates: dict[tuple[str, str], Rates] = {}
        for key, changes in (rates or {}).items():
            if not isinstance(changes, Mapping):
                raise msgspec.ValidationError(f"rates of {key}: an object is wanted")
            msgspec.convert(dict(changes), Rates)

    def rates_of(self, esp: str, provider: str) -> Rates:
        """The rates of this pair, put together once."""
        if (esp, provider) not in self._rates:
            merged: dict[str, float] = {}
            for overlay in self._overlays:
                for key in ("*", f"*/{provider}", esp, f"{esp}/{provider}"):
                    merged |= overlay.get(key, {})
            self._rates[esp, provider] = msgspec.convert(merged, Rates)
        return self._rates[esp, provider]

    def of(self, line: Line) -> list[Happening]:
        """All that will happen to this mail, in order of time; the same line has the same fate in every run."""
        provider = mailbox_provider(line["recipient"])
        fate = _Fate(line, provider, self._seed, self._speed)
        kinds = certain_fate(line["provider"], line["recipient"])
        if kinds:
            fate.follow(kinds)
        else:
            fate.unfold(self.rates_of(line["provider"], provider))
        return sorted(fate.happenings, key=lambda happening: happening.at)


class _Fate:
    """One mail's happenings in the making."""

    def __init__(self, line: Line, provider: str, seed: int, speed: float):
        self.happenings: list[Happening] = []
        self._line = line
        self._provider = provider
        self._speed = speed
        self._dice = random.Random(f"{seed}:{line['provider']}:{line['recipient']}:{line['subject']}")

    def follow(self, kinds: Sequence[Kind]) -> None:
        """Nothing is left to chance; each a few seconds after the other, however fast the world runs."""
        at = self._happens("processed", self._line["at"], 1.0)
        for kind in kinds:
            is_read = kind in ("open", "click")
            at = self._happens(
                kind, at + FASTEST_PERSON_S, 0.0, *((_ANYBODY, "203.0.113.1", _LINK if kind == "click" else "") if is_read else ())
            )

    def unfold(self, rates: Rates) -> None:
        taken_at = self._happens("processed", self._line["at"], 1.0)
        drawn = self._dice.random()
        ends: list[tuple[float, Kind, Callable[[], float]]] = [
            (rates.dropped, "dropped", lambda: 1.0),
            (rates.hard, "hard_bounce", lambda: self._mixed(0.9, 0.05, 12, 1.3)),
            (rates.soft, "soft_bounce", lambda: self._mixed(0.5, 6.0, 12, 1.2)),
            (rates.block, "block", lambda: self._mixed(0.8, 0.05, 12, 1.2)),
        ]
        for share, kind, delay_s in ends:
            if drawn < share:
                self._happens(kind, taken_at, delay_s())
                return
            drawn -= share
        self._arrive(rates, taken_at)

    def _arrive(self, rates: Rates, taken_at: float) -> None:
        is_late = self._is(rates.deferred)
        before = self._happens("deferred", taken_at, self._exponential(0.005)) if is_late else taken_at
        delivered_at = self._happens("delivered", before, self._lognormal(2, 1.5) if is_late else self._exponential(0.02))
        if self._is(rates.late):
            self._happens("late_bounce", delivered_at, self._lognormal(6, 1.2))
            return
        if not self._is(rates.inbox):
            return
        if self._is(rates.complaint):
            self._happens("complaint", delivered_at, self._lognormal(14, 1.5))
        if self._is(rates.machine):  # it hides whether a person opens the mail, too
            apples = f"17.58.{self._dice.randrange(256)}.{self._dice.randrange(1, 255)}"
            self._happens("machine_open", delivered_at, self._mixed(0.7, 0.5, 8, 1.2), _PREFETCHER, apples)
        elif self._is(rates.open):
            self._read(rates, delivered_at)

    def _read(self, rates: Rates, delivered_at: float) -> None:
        ip = f"203.0.113.{self._dice.randrange(1, 255)}"
        at = self._happens("open", delivered_at + FASTEST_PERSON_S, self._lognormal(5, 1.95), _PEOPLE.get(self._provider, _ANYBODY), ip)
        if self._is(rates.click):
            at = self._happens("click", at, self._lognormal(0.01, 1.0), _BROWSER, ip, _LINK)
        if self._is(rates.unsubscribe):
            self._happens("unsubscribe", at, self._lognormal(0.02, 1.0), _BROWSER, ip)

    def _happens(self, kind: Kind, after: float, delay_s: float, user_agent: str = "", ip: str = "", url: str = "") -> float:
        at = after + min(delay_s, LONGEST_DELAY_S) / self._speed
        self.happenings.append(Happening(kind, at, self._line, len(self.happenings), user_agent, ip, url))
        return at

    def _is(self, chance: float) -> bool:
        return self._dice.random() < chance

    def _mixed(self, share: float, mean_h: float, median_h: float, sigma: float) -> float:
        """A share is quick, the rest takes its time."""
        return self._exponential(mean_h) if self._is(share) else self._lognormal(median_h, sigma)

    def _exponential(self, mean_h: float) -> float:
        return self._dice.expovariate(1 / (mean_h * _HOUR_S))

    def _lognormal(self, median_h: float, sigma: float) -> float:
        return median_h * _HOUR_S * self._dice.lognormvariate(0, sigma)
