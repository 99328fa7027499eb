"""Messages for the tests of ESPs: one by hand, and a hypothesis strategy for any."""

import base64
from typing import Any

from hypothesis import strategies as st

from mail.ids import new_id
from mail.message import Address, Attachment, Message


def message(**changes: Any) -> Message:
    fields: dict[str, Any] = {
        "attempt_id": new_id(),
        "tenant": 0,
        "sender": Address("shop@brand.test", "The Shop"),
        "to": (Address("ann@a.test", "Ann"),),
        "subject": "Your order",
        "html": "<p>Thanks</p>",
        "text": "Thanks",
    }
    return Message(**(fields | changes))


_texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=60)
_names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)
_people = st.one_of(_names, st.sampled_from(["Smith, John", "Howdy y'all :(", 'Ann "A" Ray', "back\\slash", "Dr. No"]))
_addresses = st.builds(Address, st.sampled_from([f"{n}@{d}.test" for n in "abcDE" for d in ("x", "y")]), _people)
_tokens = st.text("abcXYZ-", min_size=1, max_size=24)
# Whatever intake lets through, since a label never stops a mail: beyond ASCII, with blanks, too long for some.
_labels = st.one_of(_tokens, st.sampled_from(["Grüße", "a b", ",", "\U0001f44b", "x" * 300]))
_attachments = st.builds(
    Attachment,
    st.sampled_from(["a.pdf", 'K\u00e4the, "1".pdf', "x" * 255]),
    st.sampled_from(["application/pdf", "image/png", "text/calendar; method=REQUEST"]),
    st.binary(min_size=1, max_size=20).map(lambda b: base64.b64encode(b).decode()),
    st.sampled_from(["attachment", "inline"]),
    st.sampled_from(["", "logo"]),
)
_headers = st.sampled_from(
    [
        (),
        (("X-A", "1"),),
        (("List-Unsubscribe", "<https://u.test/1>"), ("X-A", "2")),
        (("X-" + "a" * 98, "v" * 900),),
        (("References", "<" + "a" * 990 + ">"),),
        tuple([(f"X-{n}", "v") for n in range(16)]),
    ]
)


def _content() -> st.SearchStrategy[tuple[str, str]]:
    large = st.sampled_from(["x" * 9_900, "é" * 6_000, "<p>&'\"\n</p>" * 2_000])
    part = st.one_of(st.just(""), _texts, large)
    return st.tuples(part, part).filter(any)


def any_message() -> st.SearchStrategy[Message]:
    return st.builds(
        lambda content, **fields: message(text=content[0], html=content[1], **fields),
        _content(),
        sender=st.sampled_from([Address("me@brand.test"), Address("shop@brand.test", 'The "Shop", Inc.')]),
        to=st.lists(_addresses, min_size=1, max_size=3).map(tuple),
        cc=st.lists(_addresses, max_size=2).map(tuple),
        bcc=st.lists(_addresses, max_size=2).map(tuple),
        subject=st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=40),
        reply_to=st.one_of(st.none(), _addresses),
        headers=_headers,
        attachments=st.lists(_attachments, max_size=1).map(tuple),
        tags=st.lists(_labels, max_size=12).map(tuple),
        metadata=st.lists(st.tuples(st.one_of(st.just("attempt_id"), _labels), _texts), max_size=12).map(tuple),
    )
