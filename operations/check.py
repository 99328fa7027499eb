"""`manage.py check`: can this machine do its work? Every dependency is asked once; each line says what to do where it cannot."""

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from config.catalog import CATALOG, read_catalog
from config.settings import Settings
from db import migrate, queries
from db.connection import Database
from esp.base import Esp, load
from esp.exchange import open_exchange
from esp.health import Health
from intake import redis_list
from mail.errors import StoreUnavailable
from operations import kafka_topics, screen
from operations.store import open_database


class Finding(NamedTuple):
    """`is_good` None = worth knowing, no reason to stop."""

    is_good: bool | None
    subject: str
    words: str


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("check", help="ask every dependency whether this machine can do its work")
    command.set_defaults(run=run)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    findings = list(find(settings))
    for finding in findings:
        print(screen.verdict(*finding))
    failed = sum(finding.is_good is False for finding in findings)
    print(f"\n{failed} of {len(findings)} checks failed" if failed else "\nready")
    return 1 if failed else 0


def find(settings: Settings) -> Iterator[Finding]:
    """All findings, in the order in which the program needs things."""
    yield from _state_dir(settings)
    yield from _database(settings)
    yield from (Finding(*row) for row in kafka_topics.find(settings))
    yield from _redis(settings)
    yield from _accounts(settings)
    for notice in settings.notices():
        yield Finding(None, "settings", notice)


def _state_dir(settings: Settings) -> Iterator[Finding]:
    folder = settings.state_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(existing, os.W_OK | os.X_OK):
        yield Finding(True, "state", f"{folder} can be written")
    else:
        yield Finding(False, "state", f"{folder} cannot be written; give it to this user or set STATE_DIR")


def _database(settings: Settings) -> Iterator[Finding]:
    database = open_database(settings, "check")
    where = f"{settings.db_host}:{settings.db_port}/{settings.db_name}"
    try:
        problem = migrate.difference(database)
        yield Finding(problem is None, "database", problem or f"{where} answers, tables complete")
        if problem is None:
            database.run(queries.check)
            yield Finding(True, "statements", f"Postgres understands all {len(queries.statements())}")
        yield from _replica(database)
    except StoreUnavailable as error:
        yield Finding(False, "database", f"{where}: {error}; check the DB_ settings and that the server runs")
    finally:
        database.close()


def _replica(database: Database) -> Iterator[Finding]:
    standbys, commit = database.read("SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit')")[0]
    if not standbys:
        yield Finding(None, "replica", "no synchronous replica: losing this database server would forget the newest claims")
    if commit == "off":
        yield Finding(False, "commit", "synchronous_commit is off: a crash of Postgres would forget sent mail; set it to on")


def _redis(settings: Settings) -> Iterator[Finding]:
    """Without it only its own queue and statuses stand still, but who sets it wants it."""
    if not settings.redis_host:
        return
    where = f"{settings.redis_host}:{settings.redis_port}/{settings.redis_db}"
    condition = redis_list.examine(settings.redis_url.reveal())
    if condition.problem:
        yield Finding(False, "redis", f"{where} {condition.problem}; check the REDIS_ settings and that the server runs")
    else:
        yield Finding(True, "redis", f"{where} answers, {condition.waiting} waiting in {redis_list.QUEUE}")


def _accounts(settings: Settings) -> Iterator[Finding]:
    """Each account by its ESP's own answer, all asked at once; what is wrong comes with the settings to look at."""
    if not settings.accounts:
        yield Finding(False, "providers", "no ESP is on; set the credentials of at least one, see .env.example")
        return
    esps: list[tuple[str, Esp]] = []
    for account in settings.accounts:
        try:
            esps.append((account.provider, load(account)))
        except (LookupError, ImportError) as error:
            yield Finding(False, account.provider, f"cannot be loaded: {error}; install the requirements, or unset its credentials")
    names = _setting_names()
    for provider, health in _asked(settings, esps):
        yield Finding(health.is_good, provider, health.words if health.is_good else f"{health.words} ({names[provider]})")


def _asked(settings: Settings, esps: Sequence[tuple[str, Esp]]) -> list[tuple[str, Health]]:
    requests = [esp.health() for _, esp in esps]
    exchange = open_exchange(max(1, len(requests)), settings.esp_connect_timeout_s, settings.esp_timeout_s)
    try:
        replies = {id(request): reply for request, reply in exchange.send_all(requests, lambda request: True)}
    finally:
        exchange.close()
    return [(provider, esp.read_health(replies[id(request)])) for (provider, esp), request in zip(esps, requests, strict=True)]


def _setting_names() -> dict[str, str]:
    """By ESP, the settings that its account is made of, those that may stay unset left out."""
    stanzas, _ = read_catalog(CATALOG)
    due = {s.provider: [c.setting for c in s.credentials.values() if c.is_required] for s in stanzas}
    return {s.provider: ", ".join(filter(None, [*due[s.provider], s.base_url_setting])) for s in stanzas}
