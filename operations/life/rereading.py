"""Reads once more what an ESP reported: email_tracking keeps the ESP's own fields, and only its adapter knows what they say."""

from functools import cache

from config.catalog import CATALOG, read_catalog
from db.life import Report
from esp.base import Listener
from mail.errors import BadCallback
from mail.event import Event
from operations.providers import esp_of


def reread(report: Report) -> Event | None:
    """The event that the kept fields of a report tell; None where no adapter of today reads it from them."""
    listener = _listener(report.provider)
    if listener is None:
        return None
    try:
        events = [event for event in listener.parse_events(report.data) if event.type == report.type]
    except BadCallback:
        return None
    # one report of some ESPs speaks of several recipients
    theirs = [event for event in events if event.recipient.lower() == (report.recipient or "")]
    return next(iter(theirs or events), None)


@cache
def _listener(provider: str) -> Listener | None:
    stanzas, _ = read_catalog(CATALOG)
    found = [esp for stanza in stanzas if stanza.provider == provider and isinstance(esp := esp_of(stanza), Listener)]
    return found[0] if found else None
