"""Which account a message goes out through."""

from collections import Counter
from collections.abc import Mapping

from mail.account import Account
from routing.router import BREAKERS_OPEN, NO_ACCOUNT, PROVIDER_ABSENT, Router, Routing, Wish


def account(provider: str, tenant: int = 0, weight: int = 100) -> Account:
    return Account(provider, tenant, "http://127.0.0.1", {"key": "x"}, weight)


class Table:
    def __init__(self, rows: dict[tuple[int, str], dict[str, int]]):
        self.rows = rows

    def weights(self, tenant: int, mailbox_provider: str) -> Mapping[str, int] | None:
        return self.rows.get((tenant, mailbox_provider))


def counts(routing: Routing) -> dict[str, int]:
    return {f"{route.account.provider}/{route.account.tenant}": len(route.indices) for route in routing.routes}


SERVICE = [account("postmark"), account("sendgrid"), account("ses")]
GMAIL = Wish(0, "gmail")


def test_a_batch_is_split_by_the_weights_of_its_mailbox_provider() -> None:
    table = Table({(0, "gmail"): {"postmark": 500, "sendgrid": 300, "ses": 200}, (0, "*"): {"ses": 1000}})
    routing = Router(SERVICE).route([GMAIL] * 10 + [Wish(0, "yahoo")] * 3, table)
    assert counts(routing) == {"postmark/0": 5, "sendgrid/0": 3, "ses/0": 5}
    assert sorted(index for route in routing.routes for index in route.indices) == list(range(13))
    assert all(route.indices == sorted(route.indices) for route in routing.routes)
    assert routing.unroutable == {}


def test_single_mails_follow_the_weights_over_time() -> None:
    router, seen = Router(SERVICE), Counter[str]()
    for _ in range(100):
        seen.update(counts(router.route([GMAIL], Table({(0, "gmail"): {"postmark": 700, "sendgrid": 300, "ses": 0}}))))
    assert seen == {"postmark/0": 70, "sendgrid/0": 30}


def test_single_mails_of_many_tenants_on_the_service_accounts_follow_the_weights_together() -> None:
    router, seen = Router(SERVICE), Counter[str]()
    for tenant in range(1, 101):
        seen.update(counts(router.route([Wish(tenant, "gmail")], Table({(0, "*"): {"postmark": 700, "sendgrid": 300}}))))
    assert seen == {"postmark/0": 70, "sendgrid/0": 30}


def test_without_a_snapshot_the_starting_weights_count_and_zero_means_never() -> None:
    router = Router([account("postmark", weight=3), account("sendgrid", weight=1), account("ses", weight=0)])
    assert counts(router.route([GMAIL] * 8)) == {"postmark/0": 6, "sendgrid/0": 2}


def test_a_row_that_names_none_of_the_accounts_falls_back_to_starting_weights() -> None:
    assert counts(Router([account("smtp")]).route([GMAIL], Table({(0, "*"): {"ses": 1000}}))) == {"smtp/0": 1}


def test_a_weight_of_zero_in_the_snapshot_means_nobody_where_all_are_zero() -> None:
    routing = Router([account("ses")]).route([GMAIL], Table({(0, "*"): {"ses": 0}}))
    assert routing == Routing([], {0: NO_ACCOUNT})


def test_the_most_specific_row_wins() -> None:
    rows = {(7, "gmail"): {"ses": 1}, (7, "*"): {"postmark": 1}, (0, "gmail"): {"sendgrid": 1}, (0, "*"): {"smtp": 1}}
    router = Router([*SERVICE, account("smtp")])
    for expected in ("ses/0", "postmark/0", "sendgrid/0", "smtp/0"):
        assert counts(router.route([Wish(7, "gmail")], Table(rows))) == {expected: 1}
        del rows[next(iter(rows))]


def test_a_tenant_with_its_own_accounts_never_uses_the_services() -> None:
    router = Router([*SERVICE, account("ses", tenant=7)])
    assert counts(router.route([Wish(7, "gmail"), Wish(8, "gmail")], Table({(0, "*"): {"ses": 1, "postmark": 999}}))) == {
        "ses/7": 1,
        "postmark/0": 1,
    }


def test_nobody_can_take_anything_without_accounts() -> None:
    assert Router([]).route([GMAIL, Wish(5, "gmail", "ses")]).unroutable == {0: NO_ACCOUNT, 1: NO_ACCOUNT}


def test_a_pinned_wish_goes_to_its_esp_or_nowhere() -> None:
    router = Router([*SERVICE, account("smtp", weight=0)])
    routing = router.route(
        [Wish(0, "gmail", "ses"), Wish(0, "gmail", "sparkpost"), Wish(0, "gmail", "smtp")], Table({(0, "*"): {"ses": 0}})
    )
    assert counts(routing) == {"ses/0": 1}
    assert routing.unroutable == {1: PROVIDER_ABSENT, 2: PROVIDER_ABSENT}


def test_excluded_esps_are_used_only_when_nothing_else_is_left() -> None:
    router = Router(SERVICE)
    assert counts(router.route([Wish(0, "gmail", "", frozenset({"postmark", "ses"}))] * 4)) == {"sendgrid/0": 4}
    assert sum(counts(router.route([Wish(0, "gmail", "", frozenset({"postmark", "sendgrid", "ses"}))] * 4)).values()) == 4
    assert counts(router.route([Wish(0, "gmail", "ses", frozenset({"ses"}))])) == {"ses/0": 1}


def test_an_open_breaker_gets_no_mail_but_one_probe() -> None:
    probes = iter([True, False, False])
    router = Router(SERVICE, is_open=lambda a: a.provider == "ses", take_probe=lambda a: next(probes))
    assert counts(router.route([GMAIL] * 5))["ses/0"] == 1
    assert "ses/0" not in counts(router.route([GMAIL] * 5))


def test_mails_wait_when_all_breakers_are_open() -> None:
    routing = Router(SERVICE, is_open=lambda a: True).route([GMAIL, Wish(0, "gmail", "ses")])
    assert routing == Routing([], {0: BREAKERS_OPEN, 1: BREAKERS_OPEN})


def test_a_lone_failing_esp_is_probed_even_by_a_mail_that_it_refused() -> None:
    router = Router([account("ses")], is_open=lambda a: True, take_probe=lambda a: True)
    assert counts(router.route([Wish(0, "gmail", "", frozenset({"ses"}))])) == {"ses/0": 1}


def test_a_mail_is_no_probe_of_the_esp_that_refused_it_while_another_works() -> None:
    router = Router(SERVICE, is_open=lambda a: a.provider == "ses", take_probe=lambda a: True)
    assert "ses/0" not in counts(router.route([Wish(0, "gmail", "", frozenset({"ses"}))] * 3))


def test_primary_mode_is_strict_and_the_rest_goes_by_weight() -> None:
    table = Table({(0, "*"): {"postmark": 600, "sendgrid": 300, "ses": 100}})
    dead: set[str] = set()
    router = Router(SERVICE, "primary", ("ses",), is_open=lambda a: a.provider in dead)
    for expected in ("ses/0", "postmark/0", "sendgrid/0"):
        assert counts(router.route([GMAIL] * 4, table)) == {expected: 4}
        dead.add(expected.split("/")[0])


def test_members_of_a_group_are_mixed_not_cut_by_list_order() -> None:
    router = Router([account("postmark"), account("ses")], shuffle=lambda indices: indices.sort(key=lambda index: index % 2))
    routing = router.route([GMAIL] * 6)
    assert sorted(route.indices for route in routing.routes) == [[0, 2, 4], [1, 3, 5]]


def test_the_memory_of_fractions_is_bounded() -> None:
    router = Router(SERVICE)
    router.route([Wish(0, f"provider-{number}") for number in range(5000)])
    assert len(router._carries) == 4096
