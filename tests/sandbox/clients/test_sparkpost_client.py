"""SparkPost's own library sends to the fake as it would to the real one, and hears of its refusals in the same way."""

import base64
from typing import Any

import pytest

from tests.sandbox.clients.place import PDF, Place

pytestmark = pytest.mark.integration
LIBRARY = "sparkpost"


@pytest.fixture
def api(client: Any, place: Place) -> Any:
    """The library speaks HTTPS only, unless its resources are told another address one by one."""
    api = client.SparkPost("right")
    api.transmissions.base_uri = place.urls["sparkpost"] + "/api/v1"
    return api.transmissions


def letter(*recipients: Any, **more: Any) -> dict[str, Any]:
    words = {"subject": "For {{name or 'you'}}", "text": "Here it is, {{name or 'you'}}.", "html": "<p>Here it is.</p>"}
    return {"recipients": list(recipients), "from_email": "Shop <shop@brand.test>", **words, **more}


def test_one_mail_with_an_attachment(api: Any, place: Place) -> None:
    file = {"name": "t.pdf", "type": "application/pdf", "data": base64.b64encode(PDF).decode()}
    more = {"custom_headers": {"X-Campaign": "7"}, "metadata": {"attempt_id": "01JDV7Q2T4M8K5R9W3X6YZABCD"}, "campaign": "tickets"}
    taken = api.send(**letter("Ada <ada@x.test>", attachments=[file], reply_to="desk@brand.test", track_opens=True, **more))
    assert (taken["total_accepted_recipients"], taken["total_rejected_recipients"]) == (1, 0)
    (line,) = place.ledger("sparkpost")
    assert (line["message_id"], line["recipient"], line["attempt_id"]) == (taken["id"], "ada@x.test", "01JDV7Q2T4M8K5R9W3X6YZABCD")
    mail = place.mail("ada@x.test")
    assert (mail["subject"], mail["text"], mail["html"]) == ("For you", "Here it is, you.", "<p>Here it is.</p>")
    assert (mail["headers"]["Reply-To"], mail["headers"]["X-Campaign"]) == ("desk@brand.test", "7")
    assert mail["attachments"] == [{"name": "t.pdf", "type": "application/pdf", "size_bytes": len(PDF)}]


def test_a_batch_with_substitutions(api: Any, place: Place) -> None:
    people = [{"address": {"email": f"u{n}@x.test"}, "substitution_data": {"name": f"User {n}"}} for n in range(50)]
    assert api.send(**letter(*people))["total_accepted_recipients"] == 50
    assert {line["recipient"]: line["subject"] for line in place.ledger("sparkpost")} == {
        f"u{n}@x.test": f"For User {n}" for n in range(50)
    }


def test_a_bad_recipient_of_a_batch_is_counted(api: Any, place: Place) -> None:
    taken = api.send(**letter("u0@x.test", "bad@x.test", "u2@x.test"))
    assert (taken["total_accepted_recipients"], taken["total_rejected_recipients"]) == (2, 1)
    assert taken["rcpt_to_errors"][0]["code"] == "1300"
    assert place.recipients("sparkpost") == ["u0@x.test", "u2@x.test"]


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"recipients": ["bad@x.test"]}, 400, "5002"),
        ({"recipients": ["gone@x.test"]}, 400, "1902"),
        ({"from_email": "shop@other.test"}, 400, "7001"),
        ({"subject": "{{"}, 422, "3000"),
        ({"text": "", "html": ""}, 422, "1400"),
    ],
)
def test_a_refusal_is_an_error_with_sparkposts_code(api: Any, place: Place, wrong: dict[str, Any], status: int, code: str) -> None:
    from sparkpost.exceptions import SparkPostAPIException

    with pytest.raises(SparkPostAPIException, match=f"Code: {code}") as refused:
        api.send(**letter("ada@x.test") | wrong)
    assert refused.value.status == status
    assert place.ledger("sparkpost") == []


def test_a_stranger_is_told_so(client: Any, api: Any) -> None:
    from sparkpost.exceptions import SparkPostAPIException

    api.api_key = "wrong"
    with pytest.raises(SparkPostAPIException) as refused:
        api.send(**letter("ada@x.test"))
    assert refused.value.status == 401
