"""The catalogue of ESPs: when one is on, what its account holds, and that a new one needs nothing but its stanza."""

from pathlib import Path

import pytest

from config.settings import Settings, all_settings, load_settings
from mail.errors import BadSettings

CATALOG = """
[sendgrid]
base_url = "https://api.sendgrid.com"
base_url_setting = "SENDGRID_BASE_URL"
weight = 100
[sendgrid.credentials]
api_key = {setting = "SENDGRID_API_KEY", required = true}
template_id = {setting = "SENDGRID_TEMPLATE_ID", required = false}

[socketlabs]
base_url = "https://inject.socketlabs.com"
base_url_setting = "SOCKETLABS_BASE_URL"
weight = 20
[socketlabs.credentials]
server_id = {setting = "SOCKETLABS_SERVER_ID", required = true}
api_key = {setting = "SOCKETLABS_API_KEY", required = true}

[ses]
base_url = "https://email.{region}.amazonaws.com"
base_url_setting = "AWS_SES_BASE_URL"
[ses.credentials]
region = {setting = "AWS_SES_REGION", required = true}
access_key = {setting = "AWS_SES_ACCESS_KEY", required = true}
secret_key = {setting = "AWS_SES_SECRET_KEY", required = true}

[smtp]
base_url = "smtp://{host}:{port}"
callbacks = false
[smtp.credentials]
host = {setting = "SMTP_HOST", required = true}
port = {setting = "SMTP_PORT", required = false}
encryption = {setting = "SMTP_ENCRYPTION", required = false}

[pigeon]
base_url = "https://api.pigeon.example"
base_url_setting = "PIGEON_BASE_URL"
[pigeon.credentials]
ring = {setting = "PIGEON_RING", required = true}
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "esps.toml"
    path.write_text(CATALOG)
    return path


def load(catalog: Path, **environ: str) -> Settings:
    return load_settings(environ, None, catalog)


def test_an_esp_is_on_when_its_required_credentials_are_set(catalog: Path) -> None:
    (account,) = load(catalog, SENDGRID_API_KEY="k").accounts
    assert (account.provider, account.tenant, account.base_url, account.weight) == ("sendgrid", 0, "https://api.sendgrid.com", 100)
    assert account.credentials == {"api_key": "k"}


def test_optional_credentials_are_there_when_set(catalog: Path) -> None:
    (account,) = load(catalog, SENDGRID_API_KEY="k", SENDGRID_TEMPLATE_ID="d-1").accounts
    assert account.credentials == {"api_key": "k", "template_id": "d-1"}


def test_an_optional_credential_alone_switches_nothing_on(catalog: Path) -> None:
    assert load(catalog, SENDGRID_TEMPLATE_ID="d-1").accounts == ()


def test_credentials_that_are_set_in_part_are_a_problem_that_names_what_is_missing(catalog: Path) -> None:
    with pytest.raises(BadSettings) as caught:
        load(catalog, SOCKETLABS_API_KEY="k", AWS_SES_REGION="eu-west-1")
    assert [problem.name for problem in caught.value.problems] == ["SOCKETLABS_SERVER_ID", "AWS_SES_ACCESS_KEY", "AWS_SES_SECRET_KEY"]


def test_a_credential_that_is_wrong_is_told_once_and_not_also_as_missing(catalog: Path) -> None:
    with pytest.raises(BadSettings) as caught:
        load(catalog, SOCKETLABS_API_KEY="k", SOCKETLABS_SERVER_ID="not a number")
    assert [problem.name for problem in caught.value.problems] == ["SOCKETLABS_SERVER_ID"]


def test_the_order_and_the_weights_are_the_files(catalog: Path) -> None:
    accounts = load(catalog, PIGEON_RING="r", SOCKETLABS_API_KEY="k", SOCKETLABS_SERVER_ID="12", SENDGRID_API_KEY="k").accounts
    assert [(account.provider, account.weight) for account in accounts] == [("sendgrid", 100), ("socketlabs", 20), ("pigeon", 100)]


def test_a_base_url_can_be_replaced_by_scheme_host_and_port(catalog: Path) -> None:
    (account,) = load(catalog, SENDGRID_API_KEY="k", SENDGRID_BASE_URL="http://127.0.0.1:8025/").accounts
    assert account.base_url == "http://127.0.0.1:8025"


@pytest.mark.parametrize("url", ["https://h/v3", "https://h?x=1", "https://u:p@h", "ftp://h", "h:80", "https://", "https://h:99999"])
def test_a_base_url_with_anything_else_is_a_problem(catalog: Path, url: str) -> None:
    with pytest.raises(BadSettings) as caught:
        load(catalog, SENDGRID_API_KEY="k", SENDGRID_BASE_URL=url)
    assert [problem.name for problem in caught.value.problems] == ["SENDGRID_BASE_URL"]


def test_a_base_url_may_hold_credentials(catalog: Path) -> None:
    (account,) = load(catalog, AWS_SES_REGION="eu-west-1", AWS_SES_ACCESS_KEY="a", AWS_SES_SECRET_KEY="s").accounts
    assert account.base_url == "https://email.eu-west-1.amazonaws.com"


def test_defaults_of_settings_reach_the_account(catalog: Path) -> None:
    (account,) = load(catalog, SMTP_HOST="localhost").accounts
    assert account.credentials == {"host": "localhost", "port": "587", "encryption": "starttls"}
    assert account.base_url == "smtp://localhost:587"


def test_a_seventh_esp_needs_its_stanza_only(catalog: Path) -> None:
    names = {setting.name for setting in all_settings(catalog)}
    assert {"PIGEON_RING", "PIGEON_BASE_URL", "WEBHOOK_TOPIC_PIGEON"} <= names
    settings = load(catalog, PIGEON_RING="r-secret")
    assert settings.accounts[0].credentials == {"ring": "r-secret"}
    assert settings.webhook_topics["pigeon"] == "webhook-pigeon"
    assert "r-secret" not in repr(settings) and "r-secret" in settings.secrets()


def test_an_esp_that_never_calls_back_has_no_topic(catalog: Path) -> None:
    assert set(load(catalog).webhook_topics) == {"sendgrid", "socketlabs", "ses", "pigeon"}


def test_two_esps_on_one_webhook_topic_are_a_problem(catalog: Path) -> None:
    with pytest.raises(BadSettings) as caught:
        load(catalog, WEBHOOK_TOPIC_SES="webhook-sendgrid")
    assert [problem.name for problem in caught.value.problems] == ["WEBHOOK_TOPIC_SES"]


def test_what_no_stanza_reads_is_said(catalog: Path) -> None:
    assert "SPARKPOST_API_KEY is ignored: no stanza of config/esps.toml reads it" in load(catalog, SPARKPOST_API_KEY="k").notices()


@pytest.mark.parametrize(
    "text",
    [
        "[Up]\nbase_url='https://x'\n[Up.credentials]\na={setting='A',required=true}",
        "[x]\nweight=1",
        "x = 1",
        "[x]\nbase_url='u'\n[x.credentials]\na={setting='A'}",
        "[[",
    ],
)
def test_a_stanza_of_another_form_is_a_problem(tmp_path: Path, text: str) -> None:
    path = tmp_path / "esps.toml"
    path.write_text(text)
    with pytest.raises(BadSettings) as caught:
        load_settings({}, None, path)
    assert caught.value.problems[0].name.startswith("esps.toml")
