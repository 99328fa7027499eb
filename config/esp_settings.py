"""The settings of the ESPs that the contract names: kinds, defaults and sentences, beside their stanzas in config/esps.toml.

An ESP that is not here needs no line here: what its stanza names is declared by the stanza (`declared_by`), as secrets.
"""

import re
from collections.abc import Iterable

from config import kinds
from config.catalog import Stanza
from config.kinds import Kind
from config.secret import Secret
from config.setting import Setting

_LOCATION = kinds.matching(re.compile(r"[a-z0-9-]{1,40}"), "a region, like eu-west-1")
_ARN = kinds.matching(re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?"), "the ARN of an SNS topic")


def _secret(section: str, name: str, about: str) -> Setting:
    return Setting(name, section, kinds.SECRET, Secret(), about)


def _plain(section: str, name: str, kind: Kind, default: object, about: str, default_text: str = "") -> Setting:
    return Setting(name, section, kind, default, about, default_text=default_text)


def _base_url(section: str, name: str) -> Setting:
    about = "Another address of its API, scheme, host and port only (tests, sandbox, EU region)."
    return Setting(name, section, kinds.BASE_URL, None, about, default_text="the real API")


def _topic(section: str, provider: str) -> Setting:
    name = f"WEBHOOK_TOPIC_{provider.upper()}"
    return Setting(name, section, kinds.TOPIC, f"webhook-{provider}", "Kafka topic that its callbacks come in on.")


def _basic_auth(section: str, prefix: str) -> list[Setting]:
    return [
        Setting(f"{prefix}_WEBHOOK_USERNAME", section, kinds.LINE, None, "User name that callbacks must bring; unset = not checked."),
        _secret(section, f"{prefix}_WEBHOOK_PASSWORD", "Password that callbacks must bring; unset = not checked."),
    ]


ESP_SETTINGS: tuple[Setting, ...] = (
    _secret("SendGrid", "SENDGRID_API_KEY", "API key; unset = SendGrid is off."),
    _plain("SendGrid", "SENDGRID_TEMPLATE_ID", kinds.IDENTIFIER, None, "A pass-through dynamic template, for batches of long mails."),
    _base_url("SendGrid", "SENDGRID_BASE_URL"),
    _secret("SendGrid", "SENDGRID_WEBHOOK_PUBLIC_KEY", "Verification key of the signed event webhook; unset = not checked."),
    _topic("SendGrid", "sendgrid"),
    _secret("Postmark", "POSTMARK_SERVER_TOKEN", "Server token; unset = Postmark is off."),
    _plain("Postmark", "POSTMARK_MESSAGE_STREAM", kinds.IDENTIFIER, None, "Message stream that mails go through.", "outbound"),
    _base_url("Postmark", "POSTMARK_BASE_URL"),
    *_basic_auth("Postmark", "POSTMARK"),
    _topic("Postmark", "postmark"),
    _plain("SocketLabs", "SOCKETLABS_SERVER_ID", kinds.whole(1, 10**9), None, "Server id; unset = SocketLabs is off."),
    _secret("SocketLabs", "SOCKETLABS_API_KEY", "Injection API key."),
    _base_url("SocketLabs", "SOCKETLABS_BASE_URL"),
    _secret("SocketLabs", "SOCKETLABS_WEBHOOK_SECRET", "Secret key that callbacks must bring; unset = not checked."),
    _topic("SocketLabs", "socketlabs"),
    _secret("SparkPost", "SPARKPOST_API_KEY", "API key; unset = SparkPost is off."),
    _base_url("SparkPost", "SPARKPOST_BASE_URL"),
    *_basic_auth("SparkPost", "SPARKPOST"),
    _topic("SparkPost", "sparkpost"),
    _plain("Amazon SES", "AWS_SES_REGION", _LOCATION, None, "Region; unset = SES is off."),
    _secret("Amazon SES", "AWS_SES_ACCESS_KEY", "Access key id."),
    _secret("Amazon SES", "AWS_SES_SECRET_KEY", "Secret access key."),
    _base_url("Amazon SES", "AWS_SES_BASE_URL"),
    _plain(
        "Amazon SES",
        "AWS_SES_CONFIGURATION_SET",
        kinds.IDENTIFIER,
        None,
        "Configuration set, which publishes events; unset = the identity's.",
    ),
    _plain("Amazon SES", "AWS_SES_WEBHOOK_TOPIC_ARN", _ARN, None, "The only SNS topic that callbacks may come from; unset = not checked."),
    _plain("Amazon SES", "AWS_SNS_CERT_HOST", kinds.HOST, None, "Host of SNS' certificates (tests).", "sns.<region>.amazonaws.com"),
    _plain("Amazon SES", "AWS_SNS_TRUST_ROOT", kinds.EXISTING_FILE, None, "PEM file of the root to trust (tests).", "the system's"),
    _topic("Amazon SES", "ses"),
    _plain("SMTP", "SMTP_HOST", kinds.HOST, None, "Host of a mail relay; unset = SMTP is off."),
    _plain("SMTP", "SMTP_PORT", kinds.PORT, 587, "Its port."),
    _plain("SMTP", "SMTP_USERNAME", kinds.LINE, None, "User name; unset = no login."),
    _secret("SMTP", "SMTP_PASSWORD", "Password."),
    _plain(
        "SMTP", "SMTP_ENCRYPTION", kinds.choice("starttls", "tls", "none"), "starttls", "starttls, tls or none (production: loopback only)."
    ),
    _plain("SMTP", "SMTP_DKIM_KEY_FILE", kinds.EXISTING_FILE, None, "PEM file of an RSA key to sign mail with; unset = not signed."),
    _plain("SMTP", "SMTP_DKIM_SELECTOR", kinds.IDENTIFIER, None, "Selector under which the key's public half is in the DNS."),
    _plain("SMTP", "SMTP_DKIM_DOMAIN", kinds.HOST, None, "Domain that signs.", "the sender's"),
)


def declared_by(catalog: Iterable[Stanza]) -> list[Setting]:
    """The ESPs' settings: those above, and whatever else the stanzas name."""
    known = {setting.name: setting for setting in ESP_SETTINGS}
    for stanza in catalog:
        for setting in _of_stanza(stanza):
            known.setdefault(setting.name, setting)
    return list(known.values())


def _of_stanza(stanza: Stanza) -> list[Setting]:
    need = {True: "needed to switch it on", False: "optional"}
    own = [
        _secret(stanza.provider, credential.setting, f"The credential `{key}` of {stanza.provider} ({need[credential.is_required]}).")
        for key, credential in stanza.credentials.items()
    ]
    if stanza.base_url_setting:
        own.append(_base_url(stanza.provider, stanza.base_url_setting))
    return [*own, _topic(stanza.provider, stanza.provider)] if stanza.has_callbacks else own
