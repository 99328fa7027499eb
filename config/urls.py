"""Connection URLs: DATABASE_URL and REDIS_URL taken apart into settings, and put together again from them.

A URL holds a password: no error here repeats any of it.
"""

from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

_DATABASE_FIX = "must look like postgresql://user:password@host:5432/database?sslmode=require"
_REDIS_FIX = "must look like redis://user:password@host:6379/5 or rediss://..."


def parts_of_database_url(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """The DB_* settings that the URL holds, and its other libpq options; raises ValueError with the fix."""
    parts = _split(text, ("postgres", "postgresql"), _DATABASE_FIX)
    if "," in parts.netloc:
        raise ValueError("must name one host: put a proxy such as pgbouncer before several")
    options = {name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if value}
    host = unquote(parts.hostname or "") or options.pop("host", "")
    found = {
        "DB_HOST": host,
        "DB_PORT": _port(parts, host, _DATABASE_FIX, "5432"),
        "DB_NAME": unquote(parts.path.removeprefix("/")),
        "DB_USER": unquote(parts.username or ""),
        "DB_PASSWORD": unquote(parts.password or "") or options.pop("password", ""),
        "DB_SSL_MODE": options.pop("sslmode", ""),
    }
    return {name: value for name, value in found.items() if value}, options


def parts_of_redis_url(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """The REDIS_* settings that the URL holds, and what has no setting: "user" and "tls". Raises ValueError with the fix."""
    parts = _split(text, ("redis", "rediss"), _REDIS_FIX)
    if not parts.hostname:
        raise ValueError(_REDIS_FIX)
    found = {
        "REDIS_HOST": unquote(parts.hostname),
        "REDIS_PORT": _port(parts, parts.hostname, _REDIS_FIX, "6379"),
        "REDIS_PASSWORD": unquote(parts.password or ""),
        "REDIS_DB": dict(parse_qsl(parts.query)).get("db", "") or parts.path.strip("/"),
    }
    beside = {"user": unquote(parts.username or ""), "tls": "1" if parts.scheme == "rediss" else ""}
    return {name: value for name, value in found.items() if value}, {name: value for name, value in beside.items() if value}


def database_url(host: str, port: int, name: str, user: str, password: str, options: Mapping[str, str]) -> str:
    """One libpq URL; a host that begins with "/" is the folder of a socket."""
    options = dict(options)
    if host.startswith("/"):
        options["host"] = host
    place = "" if host.startswith("/") else _bracketed(host)
    query = "&".join(f"{option}={quote(value, safe='')}" for option, value in options.items())
    return f"postgresql://{_login(user, password)}{place}:{port}/{quote(name, safe='')}?{query}"


def redis_url(host: str, port: int, database: int, login: tuple[str, str], has_tls: bool) -> str:
    """One URL for redis-py; `login` is (user, password), either may be empty."""
    user, password = login
    scheme = "rediss" if has_tls else "redis"
    return f"{scheme}://{_login(user, password) if password else ''}{_bracketed(host)}:{port}/{database}"


def _split(text: str, schemes: tuple[str, ...], fix: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.hostname
    except ValueError:
        raise ValueError(fix) from None
    # an object-mapper's spelling names its driver: postgresql+psycopg2
    if parts.scheme.split("+")[0] not in schemes:
        raise ValueError(fix)
    return parts


def _port(parts: SplitResult, host: str, fix: str, default: str) -> str:
    try:
        port = parts.port
    except ValueError:
        raise ValueError(fix) from None
    if port is not None:
        return str(port)
    # a URL that names a host means that host's usual port, whatever another source says about another host
    return default if host else ""


def _login(user: str, password: str) -> str:
    if not user and not password:
        return ""
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if password else f"{quote(user, safe='')}@"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
