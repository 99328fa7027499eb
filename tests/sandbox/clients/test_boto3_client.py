"""Amazon's own library sends to the fake SES as it would to the real one: signed, simple, raw, templated and in batches."""

import json
from email.message import EmailMessage
from typing import Any

import pytest

from tests.sandbox.clients.place import PDF, Place

pytestmark = pytest.mark.integration
LIBRARY = "boto3"
TAGS = [{"Name": "attempt_id", "Value": "01JDV7Q2T4M8K5R9W3X6YZABCD"}]
FILES = [{"name": "t.pdf", "type": "application/pdf", "size_bytes": len(PDF)}]


def connect(client: Any, place: Place, key: str = "AKIARIGHT", secret: str = "secret") -> Any:
    from botocore.config import Config

    return client.client(
        "sesv2",
        region_name="eu-west-1",
        endpoint_url=place.urls["ses"],
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def api(client: Any, place: Place) -> Any:
    api = connect(client, place)
    yield api
    api.close()


def simple(**more: Any) -> dict[str, Any]:
    body = {"Text": {"Data": "Here it is."}, "Html": {"Data": "<p>Here it is.</p>"}}
    return {"Simple": {"Subject": {"Data": "Your ticket"}, "Body": body, **more}}


def send(api: Any, content: dict[str, Any], to: str = "ada@x.test", sender: str = "shop@brand.test", **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = api.send_email(FromEmailAddress=sender, Destination={"ToAddresses": [to]}, Content=content, **more)
    return answer


def test_one_simple_mail_with_an_attachment(api: Any, place: Place) -> None:
    file = {"FileName": "t.pdf", "ContentType": "application/pdf", "RawContent": PDF}
    content = simple(Headers=[{"Name": "X-Campaign", "Value": "7"}], Attachments=[file])
    answer = send(api, content, EmailTags=TAGS, ReplyToAddresses=["desk@brand.test"], ConfigurationSetName="events")
    (line,) = place.ledger("ses")
    assert (line["message_id"], line["recipient"], line["attempt_id"]) == (answer["MessageId"], "ada@x.test", TAGS[0]["Value"])
    mail = place.mail("ada@x.test")
    assert (mail["subject"], mail["text"], mail["html"]) == ("Your ticket", "Here it is.", "<p>Here it is.</p>")
    assert (mail["headers"]["Reply-To"], mail["headers"]["X-Campaign"]) == ("desk@brand.test", "7")
    assert mail["attachments"] == FILES


@pytest.mark.parametrize("destination", [{"Destination": {"ToAddresses": ["ada@x.test"]}}, {}])
def test_one_raw_mail_goes_to_whom_the_request_names_or_else_its_own_headers(api: Any, place: Place, destination: dict[str, Any]) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Shop <shop@brand.test>", "Ada <ada@x.test>", "Your ticket"
    message.set_content("Here it is.")
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename="t.pdf")
    raw = message.as_bytes(policy=message.policy.clone(linesep="\r\n"))
    answer = api.send_email(Content={"Raw": {"Data": raw}}, EmailTags=TAGS, **destination)
    assert [(line["message_id"], line["recipient"]) for line in place.ledger("ses")] == [(answer["MessageId"], "ada@x.test")]
    mail = place.mail("ada@x.test")
    assert (mail["subject"], mail["text"].strip(), mail["attachments"]) == ("Your ticket", "Here it is.", FILES)


def test_one_mail_through_an_inline_template(api: Any, place: Place) -> None:
    template = {"TemplateContent": {"Subject": "For {{name}}", "Text": "Hi {{name}}"}, "TemplateData": json.dumps({"name": "Ada"})}
    send(api, {"Template": template})
    assert (place.mail("ada@x.test")["subject"], place.mail("ada@x.test")["text"]) == ("For Ada", "Hi Ada")


def entries(*names: str) -> list[dict[str, Any]]:
    return [
        {
            "Destination": {"ToAddresses": [f"{name}@x.test"]},
            "ReplacementTags": [{"Name": "attempt_id", "Value": f"attempt-{name}"}],
            "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": json.dumps({"name": name})}},
            "ReplacementHeaders": [{"Name": "X-For", "Value": name}],
        }
        for name in names
    ]


def send_bulk(api: Any, *names: str, **template: Any) -> dict[str, Any]:
    content = template or {"TemplateContent": {"Subject": "For {{name}}", "Text": "Hi {{name}} from {{brand}}"}}
    default = {"Template": {**content, "TemplateData": json.dumps({"name": "friend", "brand": "Acme"})}}
    answer: dict[str, Any] = api.send_bulk_email(
        FromEmailAddress="shop@brand.test", DefaultContent=default, BulkEmailEntries=entries(*names)
    )
    return answer


def test_a_batch_of_fifty(api: Any, place: Place) -> None:
    results = send_bulk(api, *[f"u{n}" for n in range(50)])["BulkEmailEntryResults"]
    assert {result["Status"] for result in results} == {"SUCCESS"}
    assert [line["message_id"] for line in place.ledger("ses")] == [result["MessageId"] for result in results]
    assert {line["recipient"]: line["attempt_id"] for line in place.ledger("ses")} == {f"u{n}@x.test": f"attempt-u{n}" for n in range(50)}
    mail = place.mail("u7@x.test")
    assert (mail["subject"], mail["text"], mail["headers"]["X-For"]) == ("For u7", "Hi u7 from Acme", "u7")


def test_refusals_are_errors_with_their_aws_names(client: Any, api: Any, place: Place) -> None:
    wrong: dict[str, Any] = {
        "BadRequestException": lambda: send(api, simple(), to="bad@x.test"),
        "MessageRejected": lambda: send(api, simple(), sender="shop@other.test"),
        "NotFoundException": lambda: send_bulk(api, "u0", TemplateName="nobody-stored-it"),
    }
    for name, ask in wrong.items():
        with pytest.raises(getattr(api.exceptions, name)) as refused:
            ask()
        assert refused.value.response["Error"]["Code"] == name
    with pytest.raises(api.exceptions.BadRequestException):
        send_bulk(api, *[f"u{n}" for n in range(51)])
    assert place.ledger("ses") == []


def test_who_signs_with_another_key_is_a_stranger(client: Any, place: Place) -> None:
    from botocore.exceptions import ClientError

    for key, secret, code in (("AKIAWRONG", "secret", "UnrecognizedClientException"), ("AKIARIGHT", "x", "InvalidSignatureException")):
        api = connect(client, place, key, secret)
        with pytest.raises(ClientError) as refused:
            send(api, simple())
        assert (refused.value.response["Error"]["Code"], refused.value.response["ResponseMetadata"]["HTTPStatusCode"]) == (code, 403)
        api.close()
    assert place.ledger("ses") == []


def test_the_account_describes_itself(api: Any) -> None:
    account = api.get_account()
    assert account["SendingEnabled"] and account["ProductionAccessEnabled"]
    assert account["SendQuota"]["MaxSendRate"] > 0
