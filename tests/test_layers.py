"""Who may import whom, where third-party packages live, and how large things may grow: docs/architecture.md, as tests."""

import ast
import re
import statistics
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MIDDLE = {"intake", "render", "routing", "esp", "db", "clients"}
BASE = {"mail", "telemetry"}
FREE = {"sandbox", "bench", "tests"}
TOP = MIDDLE | BASE | FREE | {"workers", "operations", "config"}
# What each folder may import besides itself and the base.
ALLOWED = {
    "mail": set(),
    "telemetry": set(),
    "config": BASE,
    **dict.fromkeys(MIDDLE, BASE),
    "workers": MIDDLE | BASE | {"config"},
    "operations": MIDDLE | BASE | {"config"},
    "supervisor.py": TOP - FREE,
    "manage.py": TOP - FREE,
}
# The only places that may know a third-party package; a folder or a file.
HOMES = {
    "confluent_kafka": {"intake/kafka.py", "workers/news/publisher.py", "operations/kafka_topics.py"},
    "psycopg2": {"db/connection.py"},
    "redis": {"intake/redis_list.py", "workers/news/redis_link.py", "operations/redis_copies.py"},
    "requests": {"esp/http.py"},
    "urllib3": {"esp/http.py"},
    "jinja2": {"render"},
    "markupsafe": {"render"},
    "dotenv": {"config"},
    "prometheus_client": {"telemetry"},
    "setproctitle": {"supervisor.py", "workers/base.py"},
    "email_validator": {"mail", "config/kinds.py"},
    "botocore": {"esp/sigv4.py"},
    "dkim": {"esp/dkim_key.py"},
    "dns": {"workers/keeping/exchangers.py"},
    "smtplib": {"esp/smtp_client.py"},
    "aiohttp": set(),
    "fakeredis": set(),
}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "core", "models", "misc", "manager"}
FORBIDDEN_FOLDERS = {"queue", "email", "http", "logging", "redis", "grpc", "kafka", "metrics", "templates"}
MOST_LINES, MOST_FUNCTION_LINES = 350, 70


def tracked():
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(name) for name in names.stdout.split() if (ROOT / name).is_file() and "_pb2" not in name]


def product():
    return [path for path in tracked() if path.parts[0] not in FREE]


def imports(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def function_lengths(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def test_every_folder_imports_only_what_it_may():
    wrong = [
        f"{path} imports {target}"
        for path in product()
        for target in imports(path)
        if target in TOP and target != path.parts[0] and target not in ALLOWED[path.parts[0]]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", sorted(HOMES))
def test_a_third_party_package_stays_in_its_home(package):
    homes = HOMES[package]
    wrong = [str(path) for path in product() if package in imports(path) and not {str(path), path.parts[0]} & homes]
    assert not wrong, f"{package} is known outside {sorted(homes)}: {wrong}"


def test_no_name_says_nothing_or_shadows_a_module():
    wrong = [str(path) for path in product() if {*path.with_suffix("").parts} & FORBIDDEN_NAMES or path.parts[0] in FORBIDDEN_FOLDERS]
    assert not wrong


def test_no_file_of_the_product_is_too_long():
    long = {str(p): n for p in tracked() if p.parts[0] != "tests" and (n := (ROOT / p).read_text().count("\n")) > MOST_LINES}
    assert not long


def test_functions_are_small():
    lengths = [(f"{path}:{name}", length) for path in product() for name, length in function_lengths(path)]
    assert not [entry for entry in lengths if entry[1] > MOST_FUNCTION_LINES]
    assert statistics.median(length for _, length in lengths) < 10
    assert sum(length < 40 for _, length in lengths) >= 0.9 * len(lengths)


def test_every_module_says_what_it_is_for():
    silent = [
        str(path) for path in product() if (ROOT / path).read_text().strip() and not ast.get_docstring(ast.parse((ROOT / path).read_text()))
    ]
    assert not silent


def providers():
    import tomllib

    return set(tomllib.loads((ROOT / "config" / "esps.toml").read_text()))


def strings(path):
    """Every string constant with its line; docstrings are strings too, but none is a bare name."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node.lineno


# The settings that the contract names have their sentences here; an ESP that is not among them needs none. A URL's scheme is no name.
MAY_NAME = {("config/esp_settings.py", name) for name in ("sendgrid", "postmark", "socketlabs", "sparkpost", "ses", "smtp")}
MAY_NAME |= {("esp/exchange.py", "smtp")}


def test_no_provider_is_named_outside_its_own_files():
    """Adding an ESP must not touch anything but its own files: no `if provider ==`, no list of ESPs in code."""
    names = providers()
    wrong = []
    for path in product():
        own = next((name for name in names if path.parts[0] == "esp" and path.stem.split("_")[0] == name), None)
        named = [(text, line) for text, line in strings(path) if text in names and text != own]
        wrong += [f"{path}:{line} names {text}" for text, line in named if (str(path), text) not in MAY_NAME]
    assert not wrong, "\n".join(wrong)


def test_no_provider_is_named_in_sql():
    name = re.compile(rf"\b({'|'.join(providers())})\b", re.IGNORECASE)
    files = [*(ROOT / "db" / "sql").glob("*.sql"), *(ROOT / "db" / "migrations").glob("*.sql")]
    assert len(files) > 10
    assert not [f"{path.name}: {found[0]}" for path in files if (found := name.search(re.sub(r"--[^\n]*", "", path.read_text())))]
