"""What ESPs reported is read again from the fields that were kept: nothing of the event may be lost by that."""

import json

import pytest

from config.catalog import CATALOG, read_catalog
from db.life import Report
from esp.base import Listener
from operations.life.rereading import reread
from operations.providers import ROOT, esp_of
from workers.feedback.event_rules import moment_of

STANZAS = [stanza for stanza in read_catalog(CATALOG)[0] if isinstance(esp_of(stanza), Listener)]


def report_of(event):
    """The event as its tracking row keeps it."""
    return Report(
        moment_of(event, 0.0), str(event.type), event.provider, None, event.recipient.lower(), False, json.loads(json.dumps(event.raw))
    )


@pytest.mark.parametrize("stanza", STANZAS, ids=lambda stanza: stanza.provider)
def test_every_documented_event_is_read_again_as_it_was(stanza):
    examples = json.loads((ROOT / "esp" / "examples" / f"{stanza.provider}.json").read_text())
    bodies = [example["body"] for example in examples["callbacks"] if example["events"]]
    events = [event for body in bodies for event in esp_of(stanza).parse_events(body)]
    assert len(events) > 5
    for event in events:
        again = reread(report_of(event))
        assert (again.type, again.reason, again.smtp_code, again.bounce, again.url, again.recipient) == (
            event.type, event.reason, event.smtp_code, event.bounce, event.url, event.recipient)  # fmt: skip
        other = "opened" if event.type != "opened" else "bounced"
        assert reread(report_of(event)._replace(type=other)) is None, "what was kept as another kind is not told by these words"


@pytest.mark.parametrize("data", [{}, {"reason": "of another time"}, {"msys": 3}])
def test_fields_that_say_nothing_are_no_event(data):
    for provider in [*(stanza.provider for stanza in STANZAS), "gone"]:
        assert reread(Report(None, "bounced", provider, None, "a@a.test", False, data)) is None
