"""What is decided about misbehaviour: chances, scripts, seeds and refusals of nonsense. The listener's tests carry it out."""

from collections import Counter
from typing import Any

import pytest

from sandbox.fakes.misbehaviour import CHANCES, BadBehaviour, Misbehaviour, retry_after_value

NOW = 1_800_000_000.0


def kinds(misbehaviour: Misbehaviour, count: int) -> list[str]:
    return [misbehaviour.next_deed(NOW).kind for _ in range(count)]


def told(**changes: Any) -> Misbehaviour:
    misbehaviour = Misbehaviour("sendgrid")
    misbehaviour.change(changes)
    return misbehaviour


def test_a_fake_behaves_until_it_is_told_otherwise() -> None:
    assert set(kinds(Misbehaviour("sendgrid"), 100)) == {"ok"}


def test_the_same_seed_makes_the_same_mistakes() -> None:
    changes = {"throttle": 0.2, "reset_after": 0.3, "seed": 7}
    assert kinds(told(**changes), 200) == kinds(told(**changes), 200)
    assert kinds(told(**changes), 200) != kinds(told(**{**changes, "seed": 8}), 200)


def test_two_esps_do_not_fail_in_step() -> None:
    first, second = Misbehaviour("sendgrid", 1), Misbehaviour("postmark", 1)
    for misbehaviour in (first, second):
        misbehaviour.change({"throttle": 0.5})
    assert kinds(first, 100) != kinds(second, 100)


def test_chances_come_true_about_as_often_as_they_say() -> None:
    counts = Counter(kinds(told(throttle=0.1, error_after=0.3), 2000))
    assert 150 < counts["throttle"] < 250
    assert 500 < counts["error_after"] < 700
    assert counts["ok"] == 2000 - counts["throttle"] - counts["error_after"]


@pytest.mark.parametrize("name", CHANCES)
def test_a_chance_of_one_happens_always(name: str) -> None:
    assert set(kinds(told(**{name: 1}), 50)) == {name}


def test_a_script_is_played_exactly_then_chances_rule_again() -> None:
    script = ["ok", {"do": "throttle", "retry_after": "date", "times": 2}, {"do": "error_after", "status": 504}, "reset_before"]
    misbehaviour = told(script=script, drip=1)
    assert kinds(misbehaviour, 3) == ["ok", "throttle", "throttle"]
    assert misbehaviour.next_deed(NOW).status == 504
    assert kinds(misbehaviour, 3) == ["reset_before", "drip", "drip"]


def test_a_change_keeps_what_it_does_not_name_and_what_is_left_of_the_script() -> None:
    misbehaviour = told(script=["ok", "throttle", "drip"], latency_ms=50)
    kinds(misbehaviour, 1)
    misbehaviour.change({"status": 500})
    assert kinds(misbehaviour, 3) == ["throttle", "drip", "ok"]
    assert misbehaviour.delay_s() == 0.05


def test_calm_forgets_everything_else() -> None:
    misbehaviour = told(script=["throttle"], hang_before=1, latency_ms=50)
    misbehaviour.change({"calm": True})
    assert kinds(misbehaviour, 3) == ["ok", "ok", "ok"]
    assert misbehaviour.delay_s() == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"throttel": 0.1},
        {"throttle": 2},
        {"throttle": -0.1},
        {"throttle": "often"},
        {"throttle": 0.6, "drip": 0.6},
        {"script": ["explode"]},
        {"script": [{"do": "ok", "wrong": 1}]},
        {"script": [{"do": "throttle", "retry_after": "never"}]},
        {"status": 200},
        {"latency_ms": -1},
        {"seed": "one"},
        {"requests_per_s": -1},
        {"connections": 2},
        {"mails_per_connection": 2},
        {"idle_s": 1},
    ],
)
def test_nonsense_is_refused_and_changes_nothing(changes: dict[str, Any]) -> None:
    misbehaviour = told(throttle=0.25, script=["drip"])
    before = misbehaviour.shown()
    with pytest.raises(BadBehaviour, match="sendgrid"):
        misbehaviour.change(changes)
    assert misbehaviour.shown() == before


def test_jitter_stays_within_its_bounds() -> None:
    misbehaviour = told(latency_ms=100, jitter_ms=50)
    delays = [misbehaviour.delay_s() for _ in range(100)]
    assert 0.1 <= min(delays) < max(delays) <= 0.15


def test_what_a_fake_itself_needs_is_part_of_its_latency() -> None:
    misbehaviour = told(latency_ms=100)
    assert misbehaviour.delay_s(spent_s=0.03) == pytest.approx(0.07)
    assert misbehaviour.delay_s(spent_s=0.2) == 0


def test_a_partial_failure_spoils_the_first_item_and_a_share_of_the_others() -> None:
    deed = told(script=["partial"], partial_share=0.2).next_deed(NOW)
    spoiled = [item for item in range(500) if deed.is_spoiled(item)]
    assert spoiled == [item for item in range(500) if deed.is_spoiled(item)]
    assert spoiled[0] == 0
    assert 60 < len(spoiled) < 150
    assert not any(told().next_deed(NOW).is_spoiled(item) for item in range(50))


def test_being_down_goes_before_a_script_and_keeps_it() -> None:
    misbehaviour = told(down=True, script=["drip"])
    assert kinds(misbehaviour, 2) == ["error_before", "error_before"]
    misbehaviour.change({"down": False})
    assert kinds(misbehaviour, 1) == ["drip"]


def test_a_rate_counts_by_the_second_and_spends_neither_script_nor_what_it_refuses() -> None:
    misbehaviour = told(requests_per_s=2, script=["ok", "ok", "drip"])
    assert [misbehaviour.next_deed(NOW + at).kind for at in (0, 0.5, 0.9, 0.99, 1, 1.5, 1.9)] == [
        *("ok", "ok", "throttle", "throttle"),
        *("drip", "ok", "throttle"),
    ]
    assert kinds(told(), 1_000) == ["ok"] * 1_000


def test_what_was_done_is_counted() -> None:
    misbehaviour = told(script=["throttle", "throttle", "drip"])
    kinds(misbehaviour, 2)
    assert misbehaviour.shown()["done"] == {"throttle": 2}
    assert misbehaviour.shown()["script_left"] == 1


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("none", None),
        ("seconds", "7"),
        ("date", "Fri, 15 Jan 2027 08:00:07 GMT"),
        ("past", "Fri, 15 Jan 2027 07:00:00 GMT"),
        ("fraction", "7.5"),
        ("negative", "-1"),
        ("garbage", "soon, thank you"),
        ("endless", "99999999999999999999"),
    ],
)
def test_retry_after_comes_in_every_form(form: Any, value: str | None) -> None:
    assert retry_after_value(form, 7, NOW) == value
