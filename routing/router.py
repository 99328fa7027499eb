"""The router: which account each message goes out through.

Decides from values only: accounts, weights of a snapshot, breakers that it asks. It never sends, waits or looks at the
content of a message, and it never gives anything to a weight of 0.
"""

import random
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Literal, Protocol

import msgspec

from mail.account import Account
from routing.apportion import Carry, apportion
from routing.snapshot import ANY

NO_ACCOUNT = "no-account"  # neither the tenant nor the service may use any ESP
PROVIDER_ABSENT = "provider-absent"  # pinned to an ESP for which there is no account, or one that may never be used
BREAKERS_OPEN = "breakers-open"  # there are accounts, but all of them are failing now: wait
CARRIES_MOST = 4096

Mode = Literal["weighted", "primary"]


class Wish(msgspec.Struct, frozen=True):
    """What the router has to know of one message. `provider` pins an ESP ("" = any).

    `excluded` are the ESPs that refused it last or cannot express it: used only when nothing else is left.
    """

    tenant: int
    mailbox_provider: str
    provider: str = ""
    excluded: frozenset[str] = frozenset()


class Route(msgspec.Struct, frozen=True):
    """One account and the indices of the wishes that go out through it, ascending. (An account is no dict key: it holds a dict.)"""

    account: Account
    indices: list[int]


class Routing(msgspec.Struct, frozen=True):
    """Every index is in exactly one route, or in `unroutable` with NO_ACCOUNT, PROVIDER_ABSENT or BREAKERS_OPEN."""

    routes: list[Route]
    unroutable: dict[int, str]


class WeightTable(Protocol):
    """What a Snapshot is, and what the pinned plan of a batch can be given as."""

    def weights(self, tenant: int, mailbox_provider: str) -> Mapping[str, int] | None:
        """{provider: permille} of exactly this row, or None."""


class Choice(msgspec.Struct, frozen=True):
    """What a group of equal wishes can choose from: usable accounts with their weights, and failing ones that may be probed."""

    closed: Mapping[str, int]
    failing: Mapping[str, int]


def _never(account: Account) -> bool:
    return False


class Router:
    """Routes batches for one worker; it remembers the fractions of mails between batches, so single mails follow the weights.

    `order` names ESPs for mode "primary": strictly the first usable one, the rest by weight. `is_open` asks an account's
    breaker; `take_probe` asks whether one message may try an open account now. `shuffle` mixes the indices of a group in
    place, because a list is often sorted by domain or age and would make the ESPs' audiences unlike.
    """

    def __init__(
        self,
        accounts: Sequence[Account],
        mode: Mode = "weighted",
        order: Sequence[str] = (),
        is_open: Callable[[Account], bool] = _never,
        take_probe: Callable[[Account], bool] = _never,
        shuffle: Callable[[list[int]], None] = random.shuffle,
    ):
        self._accounts: dict[int, dict[str, Account]] = {}
        for account in accounts:
            self._accounts.setdefault(account.tenant, {})[account.provider] = account
        self._mode = mode
        self._order = {provider: place for place, provider in enumerate(order)}
        self._is_open = is_open
        self._take_probe = take_probe
        self._shuffle = shuffle
        self._carries: dict[tuple[int, str, frozenset[str]], Carry] = {}

    def route(self, wishes: Sequence[Wish], snapshot: WeightTable | None = None) -> Routing:
        """Where each wish (by its index) goes. No snapshot, or none of its rows fits: the accounts' starting weights."""
        groups: dict[Wish, list[int]] = {}
        for index, wish in enumerate(wishes):
            groups.setdefault(wish, []).append(index)
        found: dict[tuple[int, str], Route] = {}
        unroutable: dict[int, str] = {}
        for wish, indices in groups.items():
            reason = self._route_group(wish, indices, snapshot, found)
            unroutable.update(dict.fromkeys(indices, reason))
        for route in found.values():
            route.indices.sort()
        return Routing(list(found.values()), unroutable)

    def has_other(self, tenant: int, tried: Set[str]) -> bool:
        """Has this tenant an account, usable now, at an ESP that is not among those tried?"""
        accounts = self._accounts_of(tenant)
        return any(p not in tried and account.weight > 0 and not self._is_open(account) for p, account in accounts.items())

    def _route_group(self, wish: Wish, indices: list[int], snapshot: WeightTable | None, found: dict[tuple[int, str], Route]) -> str:
        """Moves the indices that find an account out of `indices` into `found`; the reason for those that stay."""
        accounts = self._accounts_of(wish.tenant)
        weights = self._weights_of(wish, accounts, snapshot)
        if not weights:
            return PROVIDER_ABSENT if wish.provider and accounts else NO_ACCOUNT
        choice = self._choice(wish, accounts, weights)
        self._shuffle(indices)
        for provider in choice.failing:
            if indices and self._take_probe(accounts[provider]):
                _assign(accounts[provider], [indices.pop()], found)
        for provider, share in self._share_out(wish, len(indices), choice.closed).items():
            if share:
                _assign(accounts[provider], indices[:share], found)
                del indices[:share]
        return BREAKERS_OPEN

    def _accounts_of(self, tenant: int) -> Mapping[str, Account]:
        return self._accounts.get(tenant) or self._accounts.get(0, {})

    def _weights_of(self, wish: Wish, accounts: Mapping[str, Account], snapshot: WeightTable | None) -> dict[str, int]:
        """{provider: weight} of the accounts that may be used at all; a pinned one whatever the snapshot says."""
        starting = {provider: account.weight for provider, account in accounts.items() if account.weight > 0}
        if wish.provider:
            return {provider: weight for provider, weight in starting.items() if provider == wish.provider}
        row = _row(wish, snapshot)
        if row is None or not row.keys() & starting.keys():
            return starting
        return {provider: row[provider] for provider in starting if row.get(provider, 0) > 0}

    def _choice(self, wish: Wish, accounts: Mapping[str, Account], weights: Mapping[str, int]) -> Choice:
        """Excluded accounts come in only where no other is left; that includes probing, or a lone failing ESP would never be tried."""
        closed = {provider: weight for provider, weight in weights.items() if not self._is_open(accounts[provider])}
        failing = {provider: weight for provider, weight in weights.items() if provider not in closed}
        fresh = {provider: weight for provider, weight in closed.items() if provider not in wish.excluded}
        probes = {provider: weight for provider, weight in failing.items() if provider not in wish.excluded}
        return Choice(fresh or closed, probes if closed else probes or failing)

    def _share_out(self, wish: Wish, count: int, weights: Mapping[str, int]) -> dict[str, int]:
        if self._mode == "primary" and weights:
            first = min(weights, key=lambda provider: (self._order.get(provider, len(self._order)), -weights[provider], provider))
            return {first: count}
        return apportion(count, weights, self._carry_of(wish))

    def _carry_of(self, wish: Wish) -> Carry:
        """Tenants on the service's accounts share one carry, else each one's first mail would go to the same favourite."""
        tenant = wish.tenant if wish.tenant in self._accounts else 0
        key = (tenant, wish.mailbox_provider, wish.excluded)
        if key not in self._carries and len(self._carries) >= CARRIES_MOST:
            del self._carries[next(iter(self._carries))]
        return self._carries.setdefault(key, Carry())


def _row(wish: Wish, snapshot: WeightTable | None) -> Mapping[str, int] | None:
    """The most specific row: the tenant's for this mailbox provider, its row for all others, then the service's two."""
    if snapshot is None:
        return None
    cells = ((wish.tenant, wish.mailbox_provider), (wish.tenant, ANY), (0, wish.mailbox_provider), (0, ANY))
    return next((row for cell in cells if (row := snapshot.weights(*cell))), None)


def _assign(account: Account, indices: Sequence[int], found: dict[tuple[int, str], Route]) -> None:
    found.setdefault((account.tenant, account.provider), Route(account, [])).indices.extend(indices)
