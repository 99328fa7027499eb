"""Records that look like trouble and are none: each must be sent as it is, and nothing of it may be taken for more than data."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.world.records import MAX_JOB_BYTES, Json, Mail, Odd, address, content_request, raw_data, spell, template_job

SUM = "{{7*7}}"
PROVIDERS = ("sendgrid", "postmark")


def all_of_them() -> list[Odd]:
    return [*plain_oddities(), *international(), *templates_in_data(), *markup_in_data(), *strange_tags()]


def plain_oddities() -> Iterator[Odd]:
    yield Odd("a tombstone", None)
    yield _job("unheard-of fields", {"unheard-of": [{"a": None}], "Type": 7})
    yield _job("a time that has passed", {"scheduledAt": "2001-01-01T00:00:00Z"})
    yield _job("nulls", dict.fromkeys(("priority", "cc", "bcc", "headers", "attachments", "tags", "from", "provider")))
    yield _job("text that looks like an escaped NUL", {"data": {"words": "\\u0000"}}, says("\\u0000"))
    yield _job("a long word", {"data": {"words": "x" * 20_000}}, says("x" * 20_000))
    for number in ("9" * 4000, str(2**64), "-0", "1e308", "1." + "1" * 5000):
        name = address(f"number-{number[:4]}").partition("@")[0]
        yield Odd(f"number {number[:12]} of {len(number)}", raw_data(name, number.encode()), (address(name),))
    yield Odd("90 lists", raw_data("deep-90", b"[" * 90 + b"]" * 90), (address("deep-90"),))
    yield Odd("doubled keys", spell(template_job("doubled"))[:-1] + b',"priority":"low"}', (address("doubled"),))
    yield Odd("all the bytes that are allowed", spell(template_job("full")).ljust(MAX_JOB_BYTES), (address("full"),))


def international() -> Iterator[Odd]:
    yield _job("a domain with an umlaut", {"recipient": {"email": "info@bücher.example"}}, recipient="info@xn--bcher-kva.example")
    yield _job("a domain in upper case", {"recipient": {"email": "Ada@CASES.EXAMPLE"}}, recipient="Ada@cases.example")
    words = "Zażółć gęślą jaźń, 你好, مرحبا, 👩‍👩‍👧, \ufffd"
    yield _job("words of everywhere", {"data": {"words": words}}, says(words))
    recipient = {"email": address("name"), "name": "Jörg Müller-Łukasz 山田"}

    def greets(mail: Mail) -> None:
        assert mail.subject == "Hello Jörg Müller-Łukasz 山田"

    yield _job("a name of everywhere", {"recipient": recipient}, greets, address("name"))


def templates_in_data() -> Iterator[Odd]:
    """Job data is never template source, wherever it stands."""
    for provider in PROVIDERS:
        name = f"sum-{provider}"
        job: Json = {
            "id": f"{SUM}{provider}",
            "template": "mirror",
            "recipient": {"email": address(name), "name": SUM, "userId": SUM},
            "data": {"words": SUM, SUM: [SUM]},
            "from": {"email": "sender@sandbox.test", "name": SUM},
            "cc": [{"email": address(f"{name}-cc"), "name": SUM}],
            "headers": {"X-Sum": SUM},
            "tags": [SUM],
            "attachments": [{"name": SUM, "content": "aGk="}],
            "campaignId": SUM,
            "locale": SUM,
            "provider": provider,
        }
        yield Odd(f"sums in a job, {provider}", spell(template_job(name, **job)), (address(name),), _shows_the_sum(provider))
    body: Json = {
        "From": {"email": "sender@sandbox.test", "name": SUM},
        "Subject": f"{SUM} -name-",
        "Content": [{"type": "text/plain", "value": f"{SUM} -name- {{{{name}}}}"}, {"type": "text/html", "value": f"<p>{SUM} -sec-</p>"}],
        "Sections": {"-part-": SUM},
        "Headers": {"X-Sum": SUM},
        "custom_args": {"sum": SUM},
        "Categories": [SUM],
        "Personalizations": [{"To": {"email": address("sum"), "name": SUM}, "Substitutions": {"name": SUM, "sec": "-part-"}}],
    }
    yield Odd("sums in a request", spell(content_request("sum", body)), (address("sum"),), _shows_the_sum_of_a_request)
    inner = {"Personalizations": [{"To": address("inner"), "Substitutions": {"name": "{{other}} -other-", "other": "gone wrong"}}]}
    yield Odd("placeholders in a value", spell(content_request("inner", inner)), (address("inner"),), says("Hello {{other}} -other-"))


def markup_in_data() -> Iterator[Odd]:
    words = "<script>alert('1')</script> & more"

    def is_escaped(mail: Mail) -> None:
        assert mail.html == "<p>&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; more</p>", mail.html
        assert mail.text == words

    yield _job("markup", {"data": {"words": words}}, is_escaped)


def strange_tags() -> Iterator[Odd]:
    """What would be a tag of a neighbour, or of the ESP's own language, is text here. They travel in one batch."""
    tags = ("-subject-", "-text-", "-name-", "%name%", "[%first_name%]", "*|FNAME|*", "{{name}}", "{{{html}}}", "<%asm_group%>", "${name}")
    for number, tag in enumerate(tags):
        yield tagged(f"tag-{number}", f"before {tag} after -sub-{tag}-sub- end")
    people = [address(f"tag-of-another-{n}") for n in range(4)]
    ones = [{"To": person, "Substitutions": {f"tag{n}": f"mine {n}, not -tag{(n + 1) % 4}-"}} for n, person in enumerate(people)]
    text = "-tag0- -tag1- {{tag2}} {{ tag3 }}"
    request = content_request("tags", {"Subject": "Tags", "Content": [{"type": "text/plain", "value": text}], "Personalizations": ones})

    def has_only_its_own(mail: Mail) -> None:
        n = people.index(mail.recipient)
        parts = ["-tag0-", "-tag1-", "{{tag2}}", "{{ tag3 }}"]
        parts[n] = f"mine {n}, not -tag{(n + 1) % 4}-"
        assert mail.text == " ".join(parts)

    yield Odd("tags of the others", spell(request), tuple(people), has_only_its_own, group="tags")


def tagged(name: str, words: str) -> Odd:
    """A job whose words must arrive as they are, through SendGrid, which knows tags."""
    job = template_job(name, data={"words": words}, provider="sendgrid")
    return Odd(f"words with {words[7:30]}", spell(job), (address(name),), says(words), group="tags")


def says(words: str) -> Callable[[Mail], None]:
    """The text of the mail is exactly this."""

    def check(mail: Mail) -> None:
        assert mail.text == words, f"it says {mail.text!r}"

    return check


def _job(name: str, changes: dict[str, Any], check: Callable[[Mail], None] | None = None, recipient: str = "") -> Odd:
    job = template_job(name.replace(" ", "-"), **changes)
    return Odd(name, spell(job), (recipient or job["recipient"]["email"],), check or says("some words"))


def _shows_the_sum(provider: str) -> Callable[[Mail], None]:
    def check(mail: Mail) -> None:
        assert mail.subject == f"{SUM}{provider} {SUM}"
        assert mail.html == f"<p>{SUM}</p>"
        data, user, locale = mail.text.rsplit(" ", 2)
        assert json.loads(data) == {"words": SUM, SUM: [SUM]}
        assert (user, locale) == (SUM, SUM)
        assert mail.headers["X-Sum"] == SUM
        assert SUM in mail.headers["From"]

    return check


def _shows_the_sum_of_a_request(mail: Mail) -> None:
    assert mail.subject == f"{SUM} {SUM}"
    assert mail.text == f"{SUM} {SUM} {SUM}"
    assert mail.html == f"<p>{SUM} {SUM}</p>"
    assert mail.headers["X-Sum"] == SUM
    assert SUM in mail.headers["From"]
    assert mail.metadata.get("sum", SUM) == SUM  # a mail over SMTP carries none but our own id
