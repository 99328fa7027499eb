"""What `manage.py check` says of each account, asked at the fakes: good ones, wrong credentials, suspended ones, dead addresses."""

import dataclasses
from pathlib import Path

import pytest

from config.settings import load_settings
from mail.account import Account
from operations import check
from sandbox.world import esp_settings
from tests.esp.test_contract import STANZAS
from tests.esp.test_round_trip import serving
from tests.operations.console import Console

pytestmark = pytest.mark.thorough

SETTING_OF = {name: next(c["setting"] for c in stanza["credentials"].values() if c["required"]) for name, stanza in STANZAS.items()}


def checked(console: Console, urls: dict[str, str], **settings: str) -> dict[str, str]:
    """The line of each ESP, and the exit code under ""."""
    done = console.type("check", **(esp_settings(urls) | settings))
    lines = {name: line for line in done.text.splitlines() for name in STANZAS if line.split()[1:2] == [name]}
    return {**lines, "": str(done.returncode)}


def test_good_accounts_are_all_good(console: Console, tmp_path: Path) -> None:
    with serving(tmp_path, {}) as urls:
        lines = checked(console, urls)
    assert {name for name, line in lines.items() if line.startswith("ok ")} == set(STANZAS)
    assert all(line.endswith("takes the credentials") for name, line in lines.items() if name)


def test_wrong_credentials_are_named_with_their_settings(console: Console, tmp_path: Path) -> None:
    strangers = {name: {"key": "user:another"} for name in STANZAS}
    with serving(tmp_path, strangers) as urls:
        lines = checked(console, urls, SMTP_USERNAME="user", SMTP_PASSWORD="wrong-secret")
    assert {name for name, line in lines.items() if line.startswith("FAIL")} == set(STANZAS)
    assert lines[""] == "1"
    for name, setting in SETTING_OF.items():
        assert setting in lines[name]
        assert ": " in lines[name]
    assert not [line for line in lines.values() if "credential " in line or "wrong-secret" in line]


def test_an_account_that_may_not_send_is_told_apart_from_a_wrong_key(console: Console, tmp_path: Path) -> None:
    silenced = {name: {"has_send_scope": False} for name in STANZAS}
    with serving(tmp_path, silenced) as urls:
        lines = checked(console, urls)
    # Postmark's /server and a relay's NOOP do not tell
    told = {"sendgrid": "Mail Send", "socketlabs": "disabled", "sparkpost": "suspended", "ses": "may not send"}
    assert {name for name, words in told.items() if words in lines[name] and lines[name].startswith("FAIL")} == set(told)


def test_a_quota_that_is_used_up_is_worth_a_note(console: Console, tmp_path: Path) -> None:
    with serving(tmp_path, {name: {"has_credits": False} for name in ("socketlabs", "sparkpost", "ses")}) as urls:
        lines = checked(console, urls)
    assert {name for name, line in lines.items() if line.startswith("note") and "quota" in line} == {"socketlabs", "sparkpost", "ses"}
    assert lines["sendgrid"].startswith("ok ")


def test_an_esp_without_its_module_is_said_so_and_the_others_are_asked() -> None:
    ours = esp_settings({"postmark": "http://127.0.0.1:1"})
    accounts = (Account("pigeon", 0, "http://127.0.0.1:1", {}), *load_settings(ours, None).accounts)
    settings = dataclasses.replace(load_settings(ours, None), accounts=accounts)
    pigeon, postmark = check._accounts(settings)
    assert pigeon == (False, "pigeon", "cannot be loaded: no module esp/pigeon.py; install the requirements, or unset its credentials")
    assert postmark.words.startswith("does not answer")


def test_an_esp_that_is_down_or_away_says_so(console: Console, tmp_path: Path) -> None:
    with serving(tmp_path, {"sendgrid": {"down": True}}) as urls:
        lines = checked(console, {"sendgrid": urls["sendgrid"], "postmark": "http://127.0.0.1:1", "smtp": "smtp://127.0.0.1:1"})
    assert "status page" in lines["sendgrid"]
    assert "does not answer" in lines["postmark"] and "POSTMARK_BASE_URL" in lines["postmark"]
    assert "does not answer" in lines["smtp"] and "SMTP_HOST" in lines["smtp"]
