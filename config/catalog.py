"""The catalogue of ESPs: config/esps.toml, one stanza each, and the service's own accounts that follow from it.

    [sendgrid]
    base_url = "https://api.sendgrid.com"
    base_url_setting = "SENDGRID_BASE_URL"
    weight = 100
    [sendgrid.credentials]
    api_key = {setting = "SENDGRID_API_KEY", required = true}
    template_id = {setting = "SENDGRID_TEMPLATE_ID", required = false}

`base_url` may hold credentials in braces ("https://email.{region}.amazonaws.com"); `callbacks = false` for an ESP that never
calls back. This module names no ESP.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mail.account import Account
from mail.errors import SettingProblem

CATALOG = Path(__file__).with_name("esps.toml")
_SERVICE_TENANT = 0
_MAX_WEIGHT = 1_000
_SETTING_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_MODULE_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Credential:
    """Which setting a credential is read from; an ESP is on when all its required ones are set."""

    setting: str
    is_required: bool


@dataclass(frozen=True)
class Stanza:
    """One ESP as esps.toml describes it. `provider` is also the name of its module in esp/."""

    provider: str
    base_url: str
    base_url_setting: str
    weight: int
    credentials: Mapping[str, Credential]
    has_callbacks: bool

    def missing(self, given: Mapping[str, str]) -> list[str]:
        """The required settings that are not among those given."""
        return [
            credential.setting for credential in self.credentials.values() if credential.is_required and credential.setting not in given
        ]

    def is_begun(self, given: Mapping[str, str]) -> bool:
        """Is any of the required settings given?"""
        return any(credential.is_required and credential.setting in given for credential in self.credentials.values())

    def is_on(self, given: Mapping[str, str]) -> bool:
        """Are all required settings given?"""
        return self.is_begun(given) and not self.missing(given)

    def callback_settings(self, names: Iterable[str]) -> list[str]:
        """Those of the names that have its callbacks checked: they share a prefix with its credentials, up to _WEBHOOK_."""
        own = tuple(credential.setting for credential in self.credentials.values())
        checking = [name for name in names if "_WEBHOOK_" in name]
        return [name for name in checking if any(setting.startswith(name.split("WEBHOOK_")[0]) for setting in own)]


def read_catalog(path: Path) -> tuple[list[Stanza], list[SettingProblem]]:
    """The stanzas in the file's order, and what is wrong with those left out."""
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return [], [SettingProblem(path.name, f"cannot be read: {error}")]
    stanzas, problems = [], []
    for provider, table in tables.items():
        try:
            stanzas.append(_stanza(provider, table))
        except (KeyError, TypeError, ValueError) as error:
            problems.append(SettingProblem(f"{path.name} [{provider}]", f"does not follow the form of the others: {error}"))
    return stanzas, problems


def account_of(stanza: Stanza, given: Mapping[str, str], defaults: Mapping[str, str]) -> Account:
    """The service's account at an ESP that is on. `given` and `defaults` are plain texts by setting name."""
    texts = {key: given.get(c.setting, defaults.get(c.setting, "")) for key, c in stanza.credentials.items()}
    credentials = {key: text for key, text in texts.items() if text}
    base_url = given.get(stanza.base_url_setting) or _filled(stanza.base_url, credentials)
    return Account(stanza.provider, _SERVICE_TENANT, base_url, credentials, stanza.weight)


def partly_set(stanzas: list[Stanza], given: Mapping[str, str]) -> Iterator[SettingProblem]:
    """What is missing where an ESP's credentials were begun and not finished."""
    for stanza in stanzas:
        if stanza.is_begun(given):
            for name in stanza.missing(given):
                yield SettingProblem(name, f"is missing: {stanza.provider} is set in part only; set it, or unset the rest to switch it off")


def _stanza(provider: str, table: Mapping[str, Any]) -> Stanza:
    if not _MODULE_NAME.fullmatch(provider):
        raise ValueError("an ESP is named like its module in esp/")
    credentials = {key: _credential(key, entry) for key, entry in table["credentials"].items()}
    if not any(credential.is_required for credential in credentials.values()):
        raise ValueError("no credential is required, so it could not be switched off")
    weight = table.get("weight", 100)
    if not isinstance(weight, int) or not 0 <= weight <= _MAX_WEIGHT:
        raise ValueError(f"weight is not a whole number from 0 to {_MAX_WEIGHT}")
    return Stanza(
        provider,
        str(table["base_url"]),
        _setting_name(table.get("base_url_setting", "")),
        weight,
        credentials,
        bool(table.get("callbacks", True)),
    )


def _credential(key: str, entry: Mapping[str, Any]) -> Credential:
    if not _MODULE_NAME.fullmatch(key):
        raise ValueError("a credential's name is in lower case")
    return Credential(_setting_name(entry["setting"], is_due=True), bool(entry.get("required", False)))


def _setting_name(name: str, is_due: bool = False) -> str:
    if not _SETTING_NAME.fullmatch(name) and (name or is_due):
        raise ValueError("a setting's name is in upper case")
    return name


def _filled(base_url: str, credentials: Mapping[str, str]) -> str:
    for key, value in credentials.items():
        base_url = base_url.replace("{" + key + "}", value)
    return base_url
