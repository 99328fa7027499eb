"""What the keeper makes of the settings: which ESPs it asks, and what it is told to do."""

from config.settings import load_settings
from esp import base
from esp.base import Finder, Listener
from workers.keeper import LEASE_S
from workers.keeper_wiring import open_doubt_keeper, terms_of
from workers.keeping.doubt_keeper import ASKING_S, SEARCH_TIMEOUT_S
from workers.keeping.doubt_rules import Policies

ENVIRONMENT = {
    "ENVIRONMENT": "development",
    "DB_SSL_MODE": "disable",
    "SENDGRID_API_KEY": "k",
    "POSTMARK_SERVER_TOKEN": "k",
    "SPARKPOST_API_KEY": "k",
    "SMTP_HOST": "127.0.0.1",
    "SMTP_ENCRYPTION": "none",
    "UNCERTAIN_POLICY_MARKETING": "resend",
    "UNCERTAIN_GRACE_SECONDS": "60",
    "EMAIL_RECIPIENT_REDIRECT": "all@staging.test",
}


def test_the_terms_are_those_of_the_settings(tmp_path):
    terms = terms_of(load_settings(ENVIRONMENT | {"STATE_DIR": str(tmp_path)}, None))
    assert terms.policies == Policies(transactional="resend", marketing="resend", silent="hold")
    assert (terms.grace_s, terms.events_topic, terms.redirect) == (60.0, "email-events", "all@staging.test")
    assert terms.webhook_topics["sendgrid"] == "webhook-sendgrid" and "smtp" not in terms.webhook_topics


def test_what_an_esp_can_tell_is_told_by_its_adapter(tmp_path):
    settings = load_settings(ENVIRONMENT | {"STATE_DIR": str(tmp_path)}, None)
    esps = {account.provider: base.load(account) for account in settings.accounts}
    assert {name for name, esp in esps.items() if isinstance(esp, Finder)} == {"postmark", "sparkpost"}
    assert {name for name, esp in esps.items() if not isinstance(esp, Listener)} == {"smtp"}
    with open_doubt_keeper(settings, None, "keeper-0") as keeper:
        assert [provider for provider, _ in keeper._searchable] == ["postmark", "sparkpost"]


def test_asking_never_takes_so_long_that_the_hosts_lease_runs_out():
    assert ASKING_S + SEARCH_TIMEOUT_S < LEASE_S / 2
