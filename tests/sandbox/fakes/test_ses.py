"""The fake SES refuses what SES refuses: signatures, contents, batches."""

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from sandbox.fakes.contract import Answer, Attachment, Call, Traits
from sandbox.fakes.ses import SANDBOX_KEY, Fake
from sandbox.fakes.ses_signature import BadSignature, check_signature

NOW = 1_795_000_000.0
SEND, BULK, ACCOUNT = "/v2/email/outbound-emails", "/v2/email/outbound-bulk-emails", "/v2/email/account"
ATTEMPT = "01JDV7Q2T4M8K5R9W3X6YZABCD"
VECTOR_KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
VECTOR_NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()


def signed(
    method: str, path: str, body: bytes, secret: str = SANDBOX_KEY, at: float = NOW, signed_host: str = "email.test", **more: str
) -> dict[str, str]:
    """Signed by hand, step by step as the documentation has it."""
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"content-type": "application/json", "host": signed_host, "x-amz-date": stamp}
    names = ";".join(headers)
    canonical = "\n".join(
        [method, path, "", *[f"{name}:{value}" for name, value in headers.items()], "", names, hashlib.sha256(body).hexdigest()]
    )
    scope = f"{stamp[:8]}/us-east-1/ses/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    authorization = f"AWS4-HMAC-SHA256 Credential={SANDBOX_KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": authorization, **more}


def ask(
    path: str, request: Any, fake: Fake | None = None, headers: dict[str, str] | None = None, spoiled: int = -1, **traits: Any
) -> Answer:
    body = request if isinstance(request, bytes) else orjson.dumps(request)
    call = Call("POST", path, headers or signed("POST", path, body), body, Traits(**traits), lambda item: item == spoiled)
    return (fake or Fake(lambda: NOW)).answer(call)


def one(**changes: Any) -> dict[str, Any]:
    return {
        "FromEmailAddress": '"The Shop" <me@brand.test>',
        "Destination": {"ToAddresses": ["Ann <ann@a.test>"]},
        "Content": {"Simple": {"Subject": {"Data": "Hi"}, "Body": {"Text": {"Data": "t"}, "Html": {"Data": "<p>h</p>"}}}},
        "EmailTags": [{"Name": "attempt_id", "Value": ATTEMPT}],
        **changes,
    }


def entry(n: int = 0, **changes: Any) -> dict[str, Any]:
    data = {"subject": f"Hi {n}", "html": f"<p>{n} & {{{{x}}}}</p>"}
    return {
        "Destination": {"ToAddresses": [f"u{n}@a.test"]},
        "ReplacementTags": [{"Name": "attempt_id", "Value": f"{n:026d}"}],
        "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": orjson.dumps(data).decode()}},
        **changes,
    }


def bulk(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    template = {"TemplateContent": {"Subject": "{{subject}}", "Html": "{{html}}"}, "TemplateData": "{}"}
    return {"FromEmailAddress": "me@brand.test", "DefaultContent": {"Template": template}, "BulkEmailEntries": list(entries), **changes}


def raw(content: bytes) -> dict[str, Any]:
    request = one(Content={"Raw": {"Data": base64.b64encode(content).decode()}})
    del request["FromEmailAddress"]
    return request


def name_of(answer: Answer) -> str:
    assert answer.accepted == ()
    return answer.headers["x-amzn-ErrorType"]


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        ("GET", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ],
)
def test_aws_own_test_suite_is_taken(method: str, signature: str) -> None:
    scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
    authorization = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={signature}"
    headers = {"Host": "example.amazonaws.com", "X-Amz-Date": "20150830T123600Z", "Authorization": authorization}
    check_signature(method, "/", headers, b"", VECTOR_KEYS, "service", VECTOR_NOW)
    with pytest.raises(BadSignature):
        check_signature(method, "/x", headers, b"", VECTOR_KEYS, "service", VECTOR_NOW)


def test_a_signed_mail_is_taken() -> None:
    answer = ask(SEND, one())
    (taken,) = answer.accepted
    assert (answer.status, orjson.loads(answer.body)) == (200, {"MessageId": taken.message_id})
    assert (taken.attempt_id, taken.recipient, taken.subject, taken.item) == (ATTEMPT, "ann@a.test", "Hi", 0)


@pytest.mark.parametrize(
    ("headers", "status", "name"),
    [
        ({"content-type": "application/json"}, 403, "MissingAuthenticationTokenException"),
        (signed("POST", SEND, b"{}"), 403, "InvalidSignatureException"),
        (signed("POST", BULK, orjson.dumps(one())), 403, "InvalidSignatureException"),
        (signed("POST", SEND, orjson.dumps(one()), secret="wrong"), 403, "InvalidSignatureException"),
        (signed("POST", SEND, orjson.dumps(one()), at=NOW - 301), 403, "InvalidSignatureException"),
        (signed("POST", SEND, orjson.dumps(one()), at=NOW + 301), 403, "InvalidSignatureException"),
        (signed("POST", SEND, orjson.dumps(one()), host="other.test"), 403, "InvalidSignatureException"),
        (signed("POST", SEND, orjson.dumps(one())) | {"x-amz-extra": "unsigned"}, 403, "InvalidSignatureException"),
        (signed("POST", SEND, orjson.dumps(one()), authorization="AWS4-HMAC-SHA256 nonsense"), 400, "IncompleteSignatureException"),
    ],
)
def test_a_request_that_is_not_signed_as_it_must_be_is_refused(headers: dict[str, str], status: int, name: str) -> None:
    answer = ask(SEND, one(), headers=headers)
    assert (answer.status, name_of(answer)) == (status, name)


def test_another_key_is_a_stranger() -> None:
    assert name_of(ask(SEND, one(), key="AKIA:other")) == "UnrecognizedClientException"


@pytest.mark.parametrize(
    "changes",
    [
        {"FromEmailAddress": None},
        {"FromEmailAddress": "Käthe <k@brand.test>"},
        {"FromEmailAddress": "The Shop, Inc. <me@brand.test>"},
        {"Destination": {}},
        {"Destination": {"ToAddresses": []}},
        {"Destination": {"ToAddresses": ["a@x.test"] * 51}},
        {"Destination": {"ToAddresses": ["no-at-sign"]}},
        {"Content": {}},
        {"Content": {"Simple": {}, "Raw": {}}},
        {"Content": {"Simple": {"Subject": {"Data": "s"}, "Body": {}}}},
        {"Content": {"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": ""}}}}},
        {"Content": {"Simple": {"Subject": {}, "Body": {"Text": {"Data": "t"}}}}},
        {"EmailTags": [{"Name": "a b", "Value": "x"}]},
        {"EmailTags": [{"Name": "a", "Value": "x" * 257}]},
        {"EmailTags": [{"Name": "a", "Value": ""}]},
        {"EmailTags": [{"Name": "a", "Value": "1"}, {"Name": "a", "Value": "2"}]},
        {"ConfigurationSetName": "no blanks"},
        {"ReplyToAddresses": ["bad"]},
    ],
)
def test_a_mail_that_breaks_a_rule_is_refused(changes: dict[str, Any]) -> None:
    assert name_of(ask(SEND, one(**changes))) == "BadRequestException"


@pytest.mark.parametrize(
    "headers",
    [
        [{"Name": f"X-{n}", "Value": "v"} for n in range(16)],
        [{"Name": "X-A", "Value": "é"}],
        [{"Name": "X-A", "Value": "x" * 996}],
        [{"Name": "X-A", "Value": "x" * 994}],
        [{"Name": "X A", "Value": "v"}],
        [{"Name": "x" * 127, "Value": "v"}],
        [{"Name": "Subject", "Value": "v"}],
    ],
)
def test_headers_have_their_limits(headers: list[dict[str, str]]) -> None:
    content = one()["Content"]
    content["Simple"]["Headers"] = headers
    assert name_of(ask(SEND, one(Content=content))) == "BadRequestException"
    assert name_of(ask(BULK, bulk(entry(ReplacementHeaders=headers)))) == "BadRequestException"


def test_raw_mail_is_read_from_its_own_headers() -> None:
    content = b"From: me@brand.test\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n\r\nwords\r\n"
    request = raw(content)
    (taken,) = ask(SEND, request).accepted
    mail = Fake().mail(orjson.dumps(request), 0)
    assert (taken.subject, taken.recipient) == ("Grüße", "ann@a.test")
    assert (mail.subject, mail.text.strip(), mail.metadata) == ("Grüße", "words", {"attempt_id": ATTEMPT})


@pytest.mark.parametrize("content", [b"no headers", b"Subject: x\r\n\r\nno From\r\n", b"From: a@b.test\r\n\r\n" + b"x" * 1001])
def test_raw_mail_that_is_none_is_refused(content: bytes) -> None:
    assert name_of(ask(SEND, raw(content))) == "BadRequestException"


def test_a_body_that_is_no_json_is_refused() -> None:
    for body in (b"{", b"[]", b""):
        assert name_of(ask(SEND, body)) == "SerializationException"


def test_a_batch_answers_for_each_in_order() -> None:
    answer = ask(BULK, bulk(*[entry(n) for n in range(3)]), spoiled=1)
    results = orjson.loads(answer.body)["BulkEmailEntryResults"]
    assert [r["Status"] for r in results] == ["SUCCESS", "INVALID_PARAMETER", "SUCCESS"]
    assert [(a.recipient, a.item, a.message_id) for a in answer.accepted] == [
        ("u0@a.test", 0, results[0]["MessageId"]),
        ("u2@a.test", 2, results[2]["MessageId"]),
    ]


def test_a_template_is_filled_once_and_without_escaping() -> None:
    mail = Fake().mail(orjson.dumps(bulk(entry(7))), 0)
    assert (mail.subject, mail.html) == ("Hi 7", "<p>7 & {{x}}</p>")


@pytest.mark.parametrize(
    "request_",
    [
        bulk(),
        bulk(*[entry(n) for n in range(51)]),
        bulk(entry(), DefaultContent={"Template": {"TemplateContent": {"Subject": "s", "Text": "t" * 1024 * 1024}}}),
        bulk(entry(), DefaultContent={"Template": {"TemplateContent": {"Subject": "s", "Text": "t"}, "TemplateData": "[]"}}),
        bulk(entry(), DefaultContent={"Template": {"TemplateContent": {"Subject": "s"}}}),
        bulk(entry(), FromEmailAddress=""),
        bulk(entry(0), entry(1, Destination={"ToAddresses": ["bad"]})),
        bulk(entry(ReplacementEmailContent={"ReplacementTemplate": {"ReplacementTemplateData": "{"}})),
        bulk(entry(ReplacementEmailContent={"ReplacementTemplate": {"ReplacementTemplateData": '{"a":"' + "x" * 262_144 + '"}'}})),
    ],
)
def test_a_batch_that_breaks_a_rule_is_refused_whole(request_: dict[str, Any]) -> None:
    assert name_of(ask(BULK, request_)) == "BadRequestException"


def test_a_stored_template_is_not_there() -> None:
    for path, request in (
        (SEND, one(Content={"Template": {"TemplateName": "stored"}})),
        (BULK, bulk(entry(), DefaultContent={"Template": {"TemplateArn": "arn:aws:ses:eu-west-1:1:template/stored"}})),
    ):
        answer = ask(path, request)
        assert (answer.status, name_of(answer)) == (404, "NotFoundException")


def test_a_mail_may_come_through_an_inline_template_too() -> None:
    template = {"TemplateContent": {"Subject": "For {{name}}", "Html": "<p>{{name}}</p>"}, "TemplateData": '{"name": "Ann"}'}
    request = one(Content={"Template": {**template, "Headers": [{"Name": "X-A", "Value": "v"}], "Attachments": [attachment()]}})
    answer = ask(SEND, request)
    assert [(mail.recipient, mail.subject) for mail in answer.accepted] == [("ann@a.test", "For Ann")]
    mail = Fake().mail(orjson.dumps(request), 0)
    assert (mail.html, dict(mail.headers)["X-A"], mail.attachments) == ("<p>Ann</p>", "v", [Attachment("a.pdf", "application/pdf", 3)])


def attachment(**changes: Any) -> dict[str, Any]:
    return {"FileName": "a.pdf", "ContentType": "application/pdf", "RawContent": "YWJj", **changes}


def test_a_simple_mail_brings_attachments() -> None:
    request = one()
    request["Content"]["Simple"]["Attachments"] = [
        attachment(ContentDisposition="INLINE", ContentId="logo"),
        attachment(FileName="f" * 255),
    ]
    assert ask(SEND, request).status == 200
    assert [part.size_bytes for part in Fake().mail(orjson.dumps(request), 0).attachments] == [3, 3]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"FileName": ""}, "BadRequestException"),
        ({"FileName": "f" * 256}, "BadRequestException"),
        ({"ContentType": "t" * 79}, "BadRequestException"),
        ({"ContentId": ""}, "BadRequestException"),
        ({"ContentDisposition": "inline"}, "BadRequestException"),
        ({"ContentTransferEncoding": "8BIT"}, "BadRequestException"),
        ({"RawContent": "not base64"}, "SerializationException"),
    ],
)
def test_attachments_have_their_limits(changes: dict[str, Any], name: str) -> None:
    for path, request in (
        (SEND, one(Content={"Simple": {**one()["Content"]["Simple"], "Attachments": [attachment(**changes)]}})),
        (
            BULK,
            bulk(entry(), DefaultContent={"Template": {**bulk()["DefaultContent"]["Template"], "Attachments": [attachment(**changes)]}}),
        ),
    ):
        assert name_of(ask(path, request)) == name


def test_a_mail_is_40_megabytes_at_most_simple_or_raw() -> None:
    simple = one()
    simple["Content"]["Simple"]["Body"]["Text"]["Data"] = "x" * 40 * 1024 * 1024
    line = b"x" * 998 + b"\r\n"
    for request in (simple, raw(b"From: me@brand.test\r\n\r\n" + line * (40 * 1024 * 1024 // len(line) + 1))):
        assert name_of(ask(SEND, request)) == "BadRequestException"


def test_raw_mail_without_a_destination_goes_to_its_own_recipients() -> None:
    request = raw(b"From: me@brand.test\r\nTo: Ann <ann@a.test>\r\nCc: c@a.test\r\nSubject: s\r\n\r\nHi\r\n")
    del request["Destination"]
    assert [mail.recipient for mail in ask(SEND, request).accepted] == ["ann@a.test"]
    nobody = raw(b"From: me@brand.test\r\nSubject: s\r\n\r\nHi\r\n")
    del nobody["Destination"]
    assert name_of(ask(SEND, nobody)) == "BadRequestException"


def test_in_ses_own_sandbox_only_verified_recipients_get_mail() -> None:
    traits = {"sender_domains": frozenset({"brand.test"}), "is_approved": False}
    for path, request in ((SEND, one()), (BULK, bulk(entry()))):
        assert name_of(ask(path, request, **traits)) == "MessageRejected"
    assert ask(SEND, one(Destination={"ToAddresses": ["you@brand.test"]}), **traits).status == 200
    headers = signed("GET", ACCOUNT, b"")
    account = orjson.loads(Fake(lambda: NOW).answer(Call("GET", ACCOUNT, headers, b"", Traits(is_approved=False))).body)
    assert (account["ProductionAccessEnabled"], account["SendQuota"]["Max24HourSend"], account["SendQuota"]["MaxSendRate"]) == (
        False,
        200,
        1,
    )


def test_one_bad_address_refuses_a_whole_batch() -> None:
    assert name_of(ask(BULK, bulk(entry(0), entry(1)), bad_recipients=frozenset({"u1@a.test"}))) == "BadRequestException"


@pytest.mark.parametrize(
    ("traits", "status", "name"),
    [
        ({"has_send_scope": False}, 403, "AccessDeniedException"),
        ({"has_credits": False}, 429, "TooManyRequestsException"),
        ({"sender_domains": frozenset({"other.test"})}, 400, "MessageRejected"),
    ],
)
def test_an_account_that_may_not_send_is_told_why(traits: dict[str, Any], status: int, name: str) -> None:
    for path, request in ((SEND, one()), (BULK, bulk(entry()))):
        answer = ask(path, request, **traits)
        assert (answer.status, name_of(answer)) == (status, name)


def test_the_account_is_described_to_those_who_sign() -> None:
    fake = Fake(time.time)
    headers = signed("GET", ACCOUNT, b"", at=time.time())
    answer = fake.answer(Call("GET", ACCOUNT, headers, b""))
    assert (answer.status, orjson.loads(answer.body)["SendingEnabled"]) == (200, True)
    assert fake.answer(Call("GET", ACCOUNT, {}, b"")).status == 403


@pytest.mark.parametrize("status", [413, 429, 500, 503])
def test_errors_are_named_in_a_header(status: int) -> None:
    answer = Fake().refuse(status)
    assert (answer.status, "x-amzn-ErrorType" in answer.headers, "message" in orjson.loads(answer.body)) == (status, True, True)
