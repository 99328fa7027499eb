"""Where settings come from: the environment first, then .env; within each, our own name first, then what else is read.

It finds texts and says where it found them; what they mean is decided by their kinds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values

from config.setting import Setting
from config.urls import parts_of_database_url, parts_of_redis_url
from mail.errors import SettingProblem

CLIENT_PREFIX = "KAFKA_CLIENT_"
_URLS: dict[str, Callable[[str], tuple[dict[str, str], dict[str, str]]]] = {
    "DATABASE_URL": parts_of_database_url,
    "REDIS_URL": parts_of_redis_url,
}


@dataclass
class Layer:
    """The texts of one source, stripped, without the empty ones; `parts` are those that its URLs hold, `beside` what else they say."""

    texts: dict[str, str]
    parts: dict[str, str] = field(default_factory=dict)
    beside: dict[str, dict[str, str]] = field(default_factory=dict)

    def find(self, setting: Setting) -> str | None:
        """The text of a setting: under its name, else as a part of a URL, else under another name."""
        for texts, name in ((self.texts, setting.name), (self.parts, setting.name), *((self.texts, alias) for alias in setting.aliases)):
            if name in texts:
                return texts[name]
        return None


class Sources:
    """All layers, the strongest first; `problems` are those of the sources themselves."""

    def __init__(self, environ: Mapping[str, str], dotenv: Path | None):
        self.problems: list[SettingProblem] = []
        self._layers = [self._layer(environ), self._layer(self._read(dotenv))]

    def find(self, setting: Setting) -> str | None:
        """The text that counts, or None where nothing is set."""
        return next((text for layer in self._layers if (text := layer.find(setting)) is not None), None)

    def beside(self, url: str) -> dict[str, str]:
        """What a URL says that no setting has a name for."""
        return next((layer.beside[url] for layer in self._layers if url in layer.beside), {})

    def client_options(self) -> dict[str, str]:
        """Every KAFKA_CLIENT_* in librdkafka's spelling: KAFKA_CLIENT_SASL_USERNAME is sasl.username."""
        names = {name for layer in self._layers for name in layer.texts if name.startswith(CLIENT_PREFIX)}
        texts = {name: next(layer.texts[name] for layer in self._layers if name in layer.texts) for name in sorted(names)}
        return {name.removeprefix(CLIENT_PREFIX).lower().replace("_", "."): text for name, text in texts.items()}

    def overruled(self, setting: Setting) -> Iterator[str]:
        """Other names of a setting that say something else than what counts."""
        counts = self.find(setting)
        for name in setting.aliases:
            if any(layer.texts.get(name, counts) != counts for layer in self._layers):
                yield name

    def misspelt(self, known: set[str]) -> Iterator[tuple[str, str]]:
        """Names in .env that nobody reads, with the one that was probably meant. The environment is not searched: it is not ours."""
        for name in self._layers[-1].texts:
            if name not in known and not name.startswith(CLIENT_PREFIX):
                for meant in get_close_matches(name, known, n=1, cutoff=0.85):
                    yield name, meant

    def _read(self, dotenv: Path | None) -> dict[str, str | None]:
        if dotenv is None or not dotenv.exists():
            return {}
        try:
            # no interpolation: a "$" in a password means itself
            return dict(dotenv_values(dotenv, interpolate=False))
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(
                SettingProblem(dotenv.name, f"cannot be read ({type(error).__name__}): it must be UTF-8 and readable by this user")
            )
            return {}

    def _layer(self, texts: Mapping[str, str | None]) -> Layer:
        layer = Layer({name: text.strip() for name, text in texts.items() if text and text.strip()})
        for url, take_apart in _URLS.items():
            if url in layer.texts:
                try:
                    parts, layer.beside[url] = take_apart(layer.texts[url])
                    layer.parts |= parts
                except ValueError as error:
                    self.problems.append(SettingProblem(url, str(error)))
        return layer


def known_names(settings: list[Setting]) -> set[str]:
    """Every name that is read."""
    return {*_URLS, *(name for setting in settings for name in (setting.name, *setting.aliases))}
