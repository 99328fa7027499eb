"""Reading the settings: all at once, all problems together, then never again.

A problem never repeats a value. What a setting is, config/declared.py and config/esp_settings.py say.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from config import rules
from config.catalog import CATALOG, Stanza, account_of, partly_set, read_catalog
from config.declared import Settings
from config.esp_settings import declared_by
from config.secret import ClientOptions, Secret
from config.setting import Setting, settings_of
from config.sources import Sources, known_names
from mail.errors import BadSettings, SettingProblem

__all__ = ["Settings", "all_settings", "load_settings"]


def load_settings(environ: Mapping[str, str], dotenv: Path | None, catalog: Path = CATALOG) -> Settings:
    """The settings from the environment and, behind it, from a .env file that need not exist.

    Raises BadSettings with every problem. `--workers N` wins by being put into `environ` as WORKER_CONCURRENCY.
    """
    stanzas, problems = read_catalog(catalog)
    sources = Sources(environ, dotenv)
    reading = _Reading(environ, sources)
    own = {field: reading.value(setting) for field, setting in settings_of(Settings).items()}
    esp = [setting for setting in declared_by(stanzas) if reading.value(setting) is not None]
    settings = _assemble(own, esp, stanzas, sources, reading)
    # a rule that stumbles over a setting which could not be read would only repeat its problem
    broken = {problem.name for problem in reading.problems}
    crossed = [*partly_set(stanzas, reading.given(esp) | dict.fromkeys(broken, "")), *rules.problems(settings)]
    problems += sources.problems + reading.problems + [problem for problem in crossed if problem.name not in broken]
    if problems:
        raise BadSettings(problems)
    return settings


def all_settings(catalog: Path = CATALOG) -> list[Setting]:
    """Every setting that is declared, in the order of the manual."""
    return [*settings_of(Settings).values(), *declared_by(read_catalog(catalog)[0])]


class _Reading:
    """Turns texts into values, and remembers what could not be turned, and which values somebody set."""

    def __init__(self, environ: Mapping[str, str], sources: Sources):
        self._environ = environ
        self._sources = sources
        self._set: set[str] = set()
        self.values: dict[str, Any] = {}
        self.secrets: list[Secret] = []
        self.problems: list[SettingProblem] = []

    def value(self, setting: Setting) -> Any:
        """The value of a setting: what is set, else its default; a wrong one is noted and counts as not set."""
        self.values[setting.name] = value = self._read(setting)
        return value

    def given(self, settings: Iterable[Setting]) -> dict[str, str]:
        """The plain texts of those settings that somebody set."""
        return {setting.name: _plain(self.values[setting.name]) for setting in settings if setting.name in self._set}

    def _read(self, setting: Setting) -> Any:
        text = self._sources.find(setting)
        if text is None:
            return setting.default_value(self._environ, self.values)
        try:
            value = setting.kind.parse(text)
        except ValueError as error:
            self.problems.append(SettingProblem(setting.name, str(error)))
            return setting.default_value(self._environ, self.values)
        self._set.add(setting.name)
        self.secrets += _secrets_in(value)
        return value


def _assemble(own: dict[str, Any], esp: list[Setting], stanzas: list[Stanza], sources: Sources, reading: _Reading) -> Settings:
    given = reading.given(esp)
    plain = {setting.name: _plain(reading.values[setting.name]) for setting in esp}
    redis = sources.beside("REDIS_URL")
    parts: dict[str, Any] = {
        **own,
        "accounts": tuple(account_of(stanza, given, plain) for stanza in stanzas if stanza.is_on(given)),
        "providers": frozenset(stanza.provider for stanza in stanzas),
        "webhook_topics": {s.provider: plain[f"WEBHOOK_TOPIC_{s.provider.upper()}"] for s in stanzas if s.has_callbacks},
        "kafka_client": ClientOptions(sources.client_options()),
        "db_options": ClientOptions(sources.beside("DATABASE_URL")),
        "redis_user": redis.get("user", ""),
        "redis_has_tls": "tls" in redis,
        "secret_values": tuple(reading.secrets),
        "esp_values": ClientOptions({name: text for name, text in plain.items() if text}),
    }
    bare = Settings(**parts)
    names = [setting.name for setting in declared_by(stanzas)]
    return Settings(**parts, notes=(*rules.notices(bare, stanzas, names, given), *_spelling(sources, stanzas)))


def _spelling(sources: Sources, stanzas: list[Stanza]) -> Iterable[str]:
    declared = [*settings_of(Settings).values(), *declared_by(stanzas)]
    for setting in declared:
        for name in sources.overruled(setting):
            yield f"{name} is ignored: {setting.name} is set to something else"
    for name, meant in sources.misspelt(known_names(declared)):
        yield f"{name} in .env is read by nobody: is {meant} meant?"


def _plain(value: Any) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value)


def _secrets_in(value: Any) -> list[Secret]:
    return [item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Secret)]
