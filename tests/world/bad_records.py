"""Records that producers must never send, and once sent anyway. Each says which dead letter it must become."""

import json
from collections.abc import Iterator
from typing import Any

from tests.world.records import MAX_JOB_BYTES, Bad, Json, address, content_request, raw_data, spell, template_job

SAMPLES: dict[str, Any] = {"boolean": True, "integer": 7, "number": 1.5, "string": "x", "list": [7], "object": {"k": 7}}
# For each field the samples that are right there; all others are of a wrong type.
JOB_FIELDS = {
    "id": {"string"},
    "type": {"string"},
    "template": {"string"},
    "recipient": {"string"},
    "recipient.email": {"string"},
    "recipient.name": {"string"},
    "recipient.userId": {"string", "integer"},
    "data": {"object"},
    "priority": {"string"},
    "scheduledAt": {"string"},
    "expiresAt": {"string"},
    "retryCount": {"integer"},
    "maxRetries": {"integer"},
    "tenant": {"integer"},
    "from": {"string"},
    "replyTo": {"string"},
    "cc": {"string"},
    "bcc": {"string"},
    "headers": set[str](),
    "attachments": set[str](),
    "tags": set[str](),
    "campaignId": {"string"},
    "batchId": {"integer"},
    "locale": {"string"},
    "provider": {"string"},
}
REQUEST_FIELDS = {"BatchID": {"integer"}, "MessageID": {"string"}, "UserID": {"integer"}, "body": {"object"}}
BODY_FIELDS = {
    "From": {"string"},
    "ReplyTo": {"string"},
    "To": {"string"},
    "Cc": {"string"},
    "Bcc": {"string"},
    "Subject": {"string"},
    "TextBody": {"string"},
    "HtmlBody": {"string"},
    "Content": set[str](),
    "Attachments": set[str](),
    "Headers": set[str](),
    "custom_args": {"object"},
    "Sections": {"object"},
    "Categories": {"string"},
    "Personalizations": set[str](),
}
EMAIL_FIELDS = {"To": {"string"}, "Cc": {"string"}, "Bcc": {"string"}, "Subject": {"string"}, "Substitutions": {"object"}}


def all_of_them() -> list[Bad]:
    return [
        *not_json(),
        *surrogates_and_nul(),
        *numbers_and_nesting(),
        *wrong_types(),
        *missing_fields(),
        *over_a_limit(),
        *unknown_things(),
        *addresses(),
        *injections(),
        *partly_bad(),
    ]


def not_json() -> Iterator[Bad]:
    good = spell(template_job("not-json"))
    yield Bad("empty", b"", "not-json", "value")
    yield Bad("words", b"please send this", "not-json", "value")
    yield Bad("cut off", good[:-9], "not-json", "value")
    yield Bad("two documents", good + good, "not-json", "value")
    yield Bad("single quotes", good.replace(b'"', b"'"), "not-json", "value")
    yield Bad("trailing comma", good[:-1] + b",}", "not-json", "value")
    yield Bad("byte order mark", b"\xef\xbb\xbf" + good, "not-json", "value")
    yield Bad("utf-16", good.decode().encode("utf-16"), "not-json", "value")
    yield Bad("bytes that are not UTF-8", good.replace(b"words", b"w\xffrds"), "not-json", "value")
    yield Bad("latin-1", good.replace(b"Ada", b"Andr\xe9"), "not-json", "value")
    yield Bad("overlong UTF-8", good.replace(b"Ada", b"A\xc0\xafda"), "not-json", "value")
    yield Bad("random bytes", bytes(range(256)), "not-json", "value")
    yield Bad("null", b"null", "invalid-job", "value")
    yield Bad("a list of jobs", b"[" + good + b"]", "invalid-job", "value")
    yield Bad("a string", json.dumps(good.decode()).encode(), "invalid-job", "value")


def surrogates_and_nul() -> Iterator[Bad]:
    name = "surrogate"
    places: dict[str, Json] = {
        "id": {"id": "@job"},
        "data": {"data": {"words": "@"}},
        "data-key": {"data": {"@": 1}},
        "name": {"recipient": {"email": address(name), "name": "@"}},
        "email": {"recipient": {"email": f"@{address(name)}"}},
        "unknown": {"unheard-of": ["@"]},
    }
    for place, change in places.items():
        value = spell(template_job(name, **change))
        yield Bad(f"surrogate in {place}", value.replace(b'"@', b'"\\ud800', 1), "not-json", "value")
    yield Bad("surrogates in wrong order", raw_data(name, b'"\\udc00\\ud800"'), "not-json", "value")
    yield Bad("raw surrogate", raw_data(name, b'"\xed\xa0\x80"'), "not-json", "value")
    yield Bad("raw NUL", raw_data("nul", b'"\0"'), "not-json", "value")
    fields = {"id": "id", "data": "data.words", "data-key": "data", "name": "recipient.name", "email": "recipient.email"}
    for place, field in {**fields, "unknown": "unheard-of[0]"}.items():
        value = json.dumps(template_job(f"nul-{place}", **places[place])).replace('"@', '"\\u0000', 1).encode()
        yield Bad(f"NUL in {place}", value, "invalid-job", field)
    yield Bad("NUL in a subject", spell(content_request("nul-subject", {"Subject": "a\0b"})), "invalid-job", "body.Subject")


def numbers_and_nesting() -> Iterator[Bad]:
    for number in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e999999999", "1" * 5000, "1" * 5000 + ".5", "0x10", "01", "+1"):
        yield Bad(f"number {number[:12]} of {len(number)}", raw_data("number", number.encode()), "not-json", "value")
    yield Bad("5,000 digits as tenant", spell(template_job("tenant")).replace(b"42", b"4" * 5000), "not-json", "value")
    yield Bad("4,000 digits as tenant", spell(template_job("tenant")).replace(b"42", b"4" * 4000), "invalid-job", "tenant")
    deep = 200_000
    yield Bad("200,000 lists", raw_data("deep", b"[" * deep + b"]" * deep), "not-json", "value")
    yield Bad("200,000 open lists", b"[" * deep, "not-json", "value")
    yield Bad("60,000 objects", raw_data("deep", b'{"a":' * 60_000 + b"1" + b"}" * 60_000), "not-json", "value")
    yield Bad("101 lists", raw_data("deep", b"[" * 101 + b"]" * 101), "not-json", "value")


def wrong_types() -> Iterator[Bad]:
    for field, name, wrong in _wrong(JOB_FIELDS):
        value = spell(template_job("wrong", **_in_recipient(field, wrong)))
        yield Bad(f"{field} is {name}", value, "invalid-job", field, group=f"types of {field}")
    for field, name, wrong in _wrong(REQUEST_FIELDS):
        if (field, name) != ("body", "string"):
            yield _wrong_request(field, name, content_request("wrong", **{field: wrong}))
    for field, name, wrong in _wrong(BODY_FIELDS):
        without = {"Personalizations": ...} if field == "To" else {}
        item = 0 if field == "To" or (field, name) == ("Personalizations", "list") else None
        yield _wrong_request(f"body.{field}", name, content_request("wrong", {**without, field: wrong}), item)
    for field, name, wrong in _wrong(EMAIL_FIELDS):
        request = content_request("wrong", {"Personalizations": [{"To": address("wrong"), field: wrong}]})
        yield _wrong_request(f"body.Personalizations[0].{field}", name, request, 0)


def _wrong(fields: dict[str, set[str]]) -> Iterator[tuple[str, str, Any]]:
    for field, right in fields.items():
        for name, sample in SAMPLES.items():
            if name not in right:
                yield field, name, sample


def _in_recipient(field: str, wrong: Any) -> Json:
    inner = field.removeprefix("recipient.")
    return {field: wrong} if inner == field else {"recipient": {"email": address("wrong"), inner: wrong}}


def _wrong_request(field: str, name: str, request: Json, item: int | None = None) -> Bad:
    return Bad(f"{field} is {name}", spell(request), "invalid-job", field, group=f"types of {field}", item=item)


def missing_fields() -> Iterator[Bad]:
    yield Bad("an empty object", b"{}", "invalid-job", "id")
    for field, culprit in {"id": "id", "recipient": "recipient", "template": "template"}.items():
        yield Bad(f"no {field}", spell(template_job("missing", **{field: ...})), "invalid-job", culprit)
    yield Bad("neither type nor template", spell(template_job("missing", type=..., template=...)), "invalid-job", "type")
    yield Bad("no email", spell(template_job("missing", recipient={"name": "Ada"})), "invalid-job", "recipient.email")
    yield Bad("a null id", spell(template_job("missing", id=None)), "invalid-job", "id")
    yield Bad("an empty id", spell(template_job("missing", id="")), "invalid-job", "id")
    yield Bad("no MessageID", spell(content_request("missing", MessageID=...)), "invalid-job", "id")
    yield Bad("no body", spell(content_request("missing", body=...) | {"body": {}}), "invalid-job", "body.To")
    yield Bad("no Subject", spell(content_request("missing", {"Subject": ...})), "invalid-job", "body.Personalizations[0].Subject", item=0)
    yield Bad("no Content", spell(content_request("missing", {"Content": ...})), "invalid-job", "body.Content")
    yield Bad("no recipients", spell(content_request("missing", {"Personalizations": ...})), "invalid-job", "body.To")
    request = content_request("missing", {"Personalizations": [{"Substitutions": {}}]})
    yield Bad("no To", spell(request), "invalid-job", "body.Personalizations[0].To", item=0)


def over_a_limit() -> Iterator[Bad]:
    many = [f"a{n}@cases.example" for n in range(51)]
    yield Bad("one byte too many", spell(template_job("large")).ljust(MAX_JOB_BYTES + 1), "too-large", "value")
    yield Bad("101 characters of id", spell(template_job("l", id="i" * 101)), "invalid-job", "id")
    yield Bad("91 characters of MessageID", spell(content_request("l", MessageID="i" * 91)), "invalid-job", "MessageID")
    yield Bad("51 addresses", spell(template_job("limit", cc=many)), "invalid-job", "cc")
    yield Bad("999 characters of subject", spell(content_request("limit", {"Subject": "s" * 999})), "invalid-job", "body.Subject")
    value = spell(content_request("limit", {"Personalizations": [{"To": "a@cases.example"}] * 1001}))
    yield Bad("1,001 personalizations", value, "invalid-job", "body.Personalizations")
    yield Bad("999 characters of header", spell(template_job("limit", headers={"X-A": "v" * 999})), "invalid-job", "headers.X-A")
    long_name = {"email": address("limit"), "name": "n" * 256}
    yield Bad("256 characters of name", spell(template_job("limit", recipient=long_name)), "invalid-job", "recipient.name")
    for field in ("retryCount", "maxRetries", "tenant", "batchId"):
        yield Bad(f"negative {field}", spell(template_job("limit", **{field: -1})), "invalid-job", field)
    for field in ("scheduledAt", "expiresAt"):
        yield Bad(f"{field} in words", spell(template_job("limit", **{field: "tomorrow"})), "invalid-job", field)
        yield Bad(f"{field} in month 13", spell(template_job("limit", **{field: "2026-13-01"})), "invalid-job", field)


def unknown_things() -> Iterator[Bad]:
    yield Bad("unknown type", spell(template_job("unknown", type="telegram")), "invalid-job", "type")
    yield Bad("unknown priority", spell(template_job("unknown", priority="soon")), "invalid-job", "priority")
    yield Bad("unknown provider", spell(template_job("unknown", provider="pigeon")), "invalid-job", "provider")
    yield Bad("bulk", spell(template_job("unknown", type="bulk")), "not-allowed", "type")
    yield Bad("recipients", spell(template_job("unknown", recipients=["a@cases.example"])), "invalid-job", "recipients")
    broken = [{"name": "a", "content": "%"}]
    yield Bad("attachment that is not base64", spell(template_job("u", attachments=broken)), "invalid-job", "attachments[0].content")
    yield Bad("a header of ours", spell(template_job("unknown", headers={"Bcc": "a@cases.example"})), "not-allowed", "headers.Bcc")


def addresses() -> Iterator[Bad]:
    wrong = {
        "without a dot": "a@x",
        "without an @": "ada.cases.example",
        "empty": "",
        "blank": " ",
        "two, by a comma": "a@cases.example,b@cases.example",
        "two, by a comma and a blank": "a@cases.example, b@cases.example",
        "two, by a semicolon": "a@cases.example;b@cases.example",
        "two, by a blank": "a@cases.example b@cases.example",
        "two in brackets": "A <a@cases.example> <b@cases.example>",
        "two @": "a@b@cases.example",
        "a host's number": "a@[127.0.0.1]",
        "a dash at the edge": "a@-cases.example",
        "an international local part": "jörg@cases.example",
        "a turned direction": "a\u202e@cases.example",
        "too long": "a" * 65 + "@cases.example",
        "punycode that is none": "a@xn--a-ecp.ru-.example",
    }
    for name, text in wrong.items():
        yield Bad(f"address {name}", spell(template_job("address", recipient={"email": text})), "invalid-address", "recipient.email")
    yield Bad("address in cc", spell(template_job("address", cc=[address("good"), "a@x"])), "invalid-address", "cc[1]")
    yield Bad("address in from", spell(template_job("address", **{"from": "a@x"})), "invalid-address", "from")
    yield Bad("address in body.From", spell(content_request("address", {"From": "a@x"})), "invalid-address", "body.From")


def injections() -> Iterator[Bad]:
    bcc = "x\r\nBcc: victim@cases.example"
    jobs: dict[str, Json] = {
        "recipient.email": {"recipient": {"email": f"a@cases.example{bcc[1:]}"}},
        "recipient.name": {"recipient": {"email": address("injected"), "name": bcc}},
        "from": {"from": f"{bcc} <a@cases.example>"},
        "replyTo": {"replyTo": f"{bcc} <a@cases.example>"},
        "cc[0]": {"cc": [f"{bcc} <a@cases.example>"]},
        "headers.X-A": {"headers": {"X-A": bcc}},
        "headers.X-B": {"headers": {"X-B": ["fine", "x\ny"]}},
        "headers": {"headers": {f"X-A: {bcc}": "v"}},
        "attachments[0].name": {"attachments": [{"name": bcc, "content": "aGk="}]},
        "tags[0]": {"tags": [bcc]},
    }
    for field, change in jobs.items():
        yield Bad(f"CR LF in {field}", spell(template_job("injected", **change)), "header-injection", field)
    for control in ("\n", "\r", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"):
        value = spell(template_job("injected", recipient={"email": address("injected"), "name": f"A{control}B"}))
        yield Bad(f"U+{ord(control):04X} in a name", value, "header-injection", "recipient.name")
    bodies: dict[str, Json] = {
        "body.Subject": {"Subject": bcc},
        "body.From": {"From": {"email": "a@cases.example", "name": bcc}},
        "body.Headers.X-A": {"Headers": {"X-A": [bcc]}},
        "body.custom_args.a": {"custom_args": {"a": bcc}},
        "body.Attachments[0].filename": {"Attachments": [{"filename": bcc, "content": "aGk="}]},
    }
    for field, change in bodies.items():
        yield Bad(f"CR LF in {field}", spell(content_request("injected", change)), "header-injection", field)
    own = content_request("injected-subject", {"Personalizations": [{"To": address("injected"), "Subject": bcc}]})
    yield Bad("CR LF in an own subject", spell(own), "header-injection", "body.Personalizations[0].Subject", item=0)
    filled = content_request("injected-filled", {"Personalizations": [{"To": address("injected"), "Substitutions": {"name": bcc}}]})
    yield Bad("CR LF in what fills a subject", spell(filled), "header-injection", "the subject", item=0)


def partly_bad() -> Iterator[Bad]:
    """One personalization costs itself only."""
    for name, bad, reason, field in (
        ("address", {"To": "a@x"}, "invalid-address", "To"),
        ("subject", {"To": address("injected"), "Subject": "a\nb"}, "header-injection", "Subject"),
        ("NUL", {"To": address("injected"), "Substitutions": {"name": "\0"}}, "invalid-job", "Substitutions.name"),
        ("number", 7, "invalid-job", ""),
    ):
        people = tuple(address(f"partly-{name}-{n}") for n in range(4))
        ones: list[Any] = [{"To": person, "Substitutions": {"name": "Ada"}} for person in people]
        request = content_request(f"partly-{name}", {"Personalizations": [*ones[:2], bad, *ones[2:]]})
        path = f"body.Personalizations[2]{field and '.'}{field}"
        yield Bad(f"one bad {name} of five", spell(request), reason, path, recipients=people, item=2)
