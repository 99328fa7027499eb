"""Callbacks that an account has every reason to believe, for each ESP: made by the fakes where they word them, else the documented
ones with a proof of the test's own. Two signers of one ESP believe nothing of each other."""

import base64
import json
import secrets
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from esp import base as esp_base
from esp.ses import Esp as Ses
from esp.sns import Certificates
from mail.account import Account
from mail.ids import wire_id
from sandbox.fakes import callbacks
from sandbox.fakes.callbacks import Happening
from tests.esp.sns_signing import HOST, ISSUER_URL, NOW, TOPIC, URL, Authority, Web, envelope

ROOT = Path(__file__).resolve().parents[2]
STANZAS = tomllib.loads((ROOT / "config" / "esps.toml").read_text())
ESPS = [name for name, stanza in STANZAS.items() if stanza.get("callbacks", True)]
NOW_S = 1_790_000_100.0
KINDS = ("delivered", "complaint")


def account_of(provider, tenant=0, **credentials):
    required = {name: "1" for name, one in STANZAS[provider]["credentials"].items() if one["required"]}
    return Account(provider, tenant, "http://127.0.0.1:1", required | credentials)


def examples_of(provider):
    """The documented callbacks; "WIRE" in them stands for the attempt's wire id."""
    return json.loads((ROOT / "esp" / "examples" / f"{provider}.json").read_text())["callbacks"]


def value_of(headers, body, tenant=None):
    """What the ingress writes; `body` is text."""
    content = {"headers": headers, "body": body}
    return json.dumps(content if tenant is None else content | {"tenant": tenant}).encode()


class ByTheFake:
    """The fake's own builder, with keys of its own. `signs`: the proof is over the body."""

    def __init__(self, provider):
        self._builder = callbacks.load(provider)
        names = {one["setting"]: name for name, one in STANZAS[provider]["credentials"].items()}
        self.provider, self.signs = provider, provider == "sendgrid"
        self.account = account_of(provider, **{names[setting]: value for setting, value in self._builder.settings().items()})

    def listener_of(self, account):
        return esp_base.load(account)

    def posts(self, sent):
        """(headers, body) of a delivery and a complaint about this mail."""
        line = {"at": NOW_S - 50, "provider": self.provider, "attempt_id": wire_id(sent.attempt_id), "message_id": "mid"}
        line |= {"recipient": sent.recipient, "subject": "s", "request": 1}
        happenings = [Happening(kind, NOW_S - 40 + n, line, n, "Thunderbird", "192.0.2.1") for n, kind in enumerate(KINDS)]
        posts = self._builder.posts(happenings, NOW_S)
        return [({name: list(values) for name, values in post.headers.items()}, post.body.decode()) for post in posts]

    def unproved(self, headers, body):
        return {}, body


class Documented:
    """The documented callbacks of a delivery and a complaint, with headers and bodies as `prove` makes them."""

    signs = False

    def __init__(self, provider, **credentials):
        self.provider, self.account = provider, account_of(provider, **credentials)

    def listener_of(self, account):
        return esp_base.load(account)

    def posts(self, sent):
        wanted = {"delivered", "complained"}
        found = [
            e for e in examples_of(self.provider) if (types := _types(e)) and types[-1] in wanted and len(set(types) - {"processed"}) == 1
        ]
        changes = (
            ("WIRE", wire_id(sent.attempt_id)),
            ("ann@a.test", sent.recipient),
            ("2026-11-21T", "2026-09-21T"),
            ("1800000100", "1790000050"),
        )
        texts = [json.dumps(example["body"]) for example in found]
        for known, put in changes:
            texts = [text.replace(known, put) for text in texts]
        assert texts
        return [self.prove(json.loads(text)) for text in texts]


def _types(example):
    return [told if isinstance(told, str) else told["type"] for told in example["events"] if isinstance(told, str) or told.get("attempt")]


class ByLogin(Documented):
    """Behind a user name and a password."""

    def __init__(self, provider):
        self._password = secrets.token_hex(8)
        super().__init__(provider, webhook_username="hook", webhook_password=self._password)

    def prove(self, body):
        login = base64.b64encode(f"hook:{self._password}".encode()).decode()
        return {"Authorization": [f"Basic {login}"]}, json.dumps(body)

    def unproved(self, headers, body):
        return {}, body


class BySecretInBody(Documented):
    """With a secret in each event."""

    def __init__(self, provider):
        self._secret = secrets.token_hex(8)
        super().__init__(provider, webhook_secret=self._secret)

    def prove(self, body):
        return {}, json.dumps(body | {"SecretKey": self._secret})

    def unproved(self, headers, body):
        return headers, json.dumps({name: value for name, value in json.loads(body).items() if name != "SecretKey"})


class BySns(Documented):
    """In envelopes that SNS signed: an authority of the test's own, whose certificates are found where Amazon's are."""

    signs = True

    def __init__(self, provider):
        super().__init__(provider, region="eu-west-1", topic_arn=TOPIC)
        root = Authority("Root", is_authority=True)
        middle = Authority("Middle", root, is_authority=True)
        self._leaf = Authority("sns.amazonaws.com", middle, names=("sns.amazonaws.com",), issuer_url=ISSUER_URL)
        self.web = Web()
        self.web.pages = {URL: self._leaf.pem, ISSUER_URL: middle.der}
        self._root, self._esp = root, None
        self.now_s = NOW.timestamp()

    def listener_of(self, account):
        """The product's own reader, but for where certificates come from."""
        if self._esp is None:
            self.roots.write_bytes(self._root.pem)
            self._esp = Ses(account)
            self._esp.__dict__["_certificates"] = Certificates(HOST, self.roots, self.web.fetch, lambda: self.now_s)
        return self._esp

    def prove(self, body):
        if "Type" in body:
            body = json.loads(body["Message"])
        at = datetime.fromtimestamp(NOW_S - 30, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {}, json.dumps(envelope(self._leaf, Message=json.dumps(body), MessageId=secrets.token_hex(8), Timestamp=at))

    def unproved(self, headers, body):
        return headers, json.loads(body)["Message"]


def signer_of(provider, folder):
    """A signer with fresh keys; `folder` is for files that it may need."""
    if provider == "ses":
        signer = BySns(provider)
        signer.roots = folder / f"{secrets.token_hex(4)}.pem"
        return signer
    return {"socketlabs": BySecretInBody, "sparkpost": ByLogin}.get(provider, ByTheFake)(provider)
