"""Kinds of settings: how a text becomes a value, and what to say to whoever wrote something else.

A parser gets a text that is stripped and not empty; it raises ValueError with a fix ("must be ..."), and never repeats the
text, which may be a secret that landed under the wrong name.
"""

import base64
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from email_validator import EmailNotValidError, validate_email

from config.secret import Secret

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,62})\.)*[a-z0-9][a-z0-9-]{0,62}")
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
_FERNET_BYTES = 32


@dataclass(frozen=True)
class Kind:
    """`about` finishes the sentence "the value must be ..."; a private value is never shown."""

    parse: Callable[[str], Any]
    about: str
    is_private: bool = False


def whole(low: int, high: int) -> Kind:
    """A whole number of the range, both ends included."""
    about = f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,15}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be {about}")
        return int(text)

    return Kind(parse, about)


def seconds(low: float, high: float) -> Kind:
    """A number of seconds of the range, with decimals where wanted."""
    about = f"a number of seconds from {low:g} to {high:g}"

    def parse(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or not low <= float(text) <= high:
            raise ValueError(f"must be {about}")
        return float(text)

    return Kind(parse, about)


def choice(*names: str) -> Kind:
    """One of the names, in whatever case."""
    about = f"one of {', '.join(names)}"

    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"must be {about}")
        return text.lower()

    return Kind(parse, about)


def matching(pattern: re.Pattern[str], about: str) -> Kind:
    """A text that the pattern matches from end to end."""

    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"must be {about}")
        return text

    return Kind(parse, about)


def is_loopback(host: str) -> bool:
    """Does this host name, address or socket path mean this machine?"""
    if host.startswith("/") or host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _parse_truth(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return text.lower() in _TRUE


def _parse_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line without control characters")
    return text


def _parse_address(text: str) -> str:
    try:
        return validate_email(text, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError:
        raise ValueError("must be one email address, like no-reply@example.com") from None


def _parse_allowlist(text: str) -> tuple[str, ...]:
    return tuple(_allowed(entry.strip().lower()) for entry in text.split(",") if entry.strip())


def _allowed(entry: str) -> str:
    domain = entry.removeprefix("*").removeprefix("@")
    if "@" not in domain:
        if not _DOMAIN.fullmatch(domain):
            raise ValueError("must be addresses and domains, separated by commas, like ann@example.com, example.org")
        return f"@{domain}"
    return _parse_address(entry).lower()


def _parse_host(text: str) -> str:
    is_plain = _HOST.fullmatch(text) or text.startswith("/")
    if not is_plain and not _is_ip(text):
        raise ValueError("must be a host name or an IP address, without scheme and port")
    return text


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _parse_brokers(text: str) -> str:
    brokers = [broker.strip() for broker in text.split(",") if broker.strip()]
    if not brokers or not all(_is_host_and_port(broker) for broker in brokers):
        raise ValueError("must be brokers as host:port, separated by commas, without a scheme")
    return ",".join(brokers)


def _parse_target(text: str) -> str:
    if not _is_host_and_port(text, is_port_due=True):
        raise ValueError("must be host:port, without a scheme")
    return text


def _is_host_and_port(text: str, is_port_due: bool = False) -> bool:
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    is_bare = parts.netloc == text and parts.username is None
    return is_bare and bool(_HOST.fullmatch(host) or _is_ip(host)) and (port is not None or not is_port_due)


def _parse_topics(text: str) -> tuple[str, ...]:
    if text.startswith("^"):
        try:
            re.compile(text)
        except re.error:
            raise ValueError("must be a regular expression that compiles, or topics separated by commas") from None
        return (text,)
    topics = tuple(dict.fromkeys(topic.strip() for topic in text.split(",") if topic.strip()))
    if not topics or not all(_TOPIC.fullmatch(topic) for topic in topics):
        raise ValueError(
            "must be topics (letters, digits, '.', '_', '-') separated by commas, or one regular expression that begins with '^'"
        )
    return topics


def _parse_base_url(text: str) -> str:
    fix = "must be scheme, host and port only, like https://api.example.com: the documented path follows by itself"
    try:
        parts = urlsplit(text)
        is_port_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(fix) from None
    is_bare = parts.path in ("", "/") and not parts.query and not parts.fragment and parts.username is None
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_bare or not is_port_fine:
        raise ValueError(fix)
    return f"{parts.scheme}://{parts.netloc}"


def _parse_unsubscribe_url(text: str) -> str:
    parts = urlsplit(text)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not is_safe or not parts.hostname or "{token}" not in text or not text.isprintable() or " " in text:
        raise ValueError("must be an https URL that holds {token}, like https://example.com/unsubscribe/{token}")
    return text


def _parse_mailto(text: str) -> str:
    return _parse_address(text.removeprefix("mailto:"))


def _parse_fernet_keys(text: str) -> tuple[Secret, ...]:
    keys = [key.strip() for key in text.split(",") if key.strip()]
    if not keys or not all(map(_is_fernet_key, keys)):
        raise ValueError("must be Fernet keys (32 bytes in URL-safe base64, 44 characters each), newest first, separated by commas")
    return tuple(map(Secret, keys))


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, altchars=b"-_", validate=True)) == _FERNET_BYTES
    except ValueError:
        return False


def _parse_secret(text: str) -> Secret:
    if any(character in text for character in "\0\r\n"):
        raise ValueError("must be one line")
    return Secret(text)


def _parse_level(text: str) -> str:
    level = {"warn": "warning", "critical": "error"}.get(text.lower(), text.lower())
    if level not in ("debug", "info", "warning", "error"):
        raise ValueError("must be one of debug, info, warning, error")
    return level


TRUTH = Kind(_parse_truth, "true or false")
LINE = Kind(_parse_line, "one line of text")
LEVEL = Kind(_parse_level, "one of debug, info, warning, error")
NAME = matching(_NAME, "letters, digits, '.', '_' and '-', at most 100 of them")
IDENTIFIER = matching(re.compile(r"[a-z0-9][a-z0-9._:/-]{0,200}", re.IGNORECASE), "one word of letters, digits, '.', '_', ':', '/' and '-'")
DB_NAME = matching(re.compile(r"[^\s\0'\\]{1,63}"), "at most 63 characters without blanks and quotes")
ADDRESS = Kind(_parse_address, "one email address", is_private=True)
MAILTO = Kind(_parse_mailto, "one email address", is_private=True)
ALLOWLIST = Kind(_parse_allowlist, "addresses and domains, separated by commas", is_private=True)
HOST = Kind(_parse_host, "a host name or an IP address")
PORT = whole(1, 65_535)
ANY_PORT = whole(0, 65_535)
BROKERS = Kind(_parse_brokers, "brokers as host:port, separated by commas")
TARGET = Kind(_parse_target, "host:port")
TOPIC = matching(_TOPIC, "a topic name: letters, digits, '.', '_' and '-'")
TOPICS = Kind(_parse_topics, "topics separated by commas, or one regular expression that begins with '^'")
BASE_URL = Kind(_parse_base_url, "scheme, host and port only")
UNSUBSCRIBE_URL = Kind(_parse_unsubscribe_url, "an https URL that holds {token}")
FERNET_KEYS = Kind(_parse_fernet_keys, "Fernet keys, newest first, separated by commas", is_private=True)
SECRET = Kind(_parse_secret, "one line", is_private=True)
FOLDER = Kind(lambda text: Path(text).expanduser(), "a folder")
EXISTING_FILE = Kind(lambda text: _existing(Path(text).expanduser()), "a file that exists")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("must name a file that exists")
    return path
