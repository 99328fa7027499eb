"""A message: one email, rendered, addressed and ready for any ESP. Rendered once, so every ESP gets the same words."""

import msgspec


class Address(msgspec.Struct, frozen=True):
    """An email address, already validated and normalised, with its display name ("" = none)."""

    email: str
    name: str = ""


class Attachment(msgspec.Struct, frozen=True):
    """A file in a message; `content` is base64 as it came. `content_id` is set for inline images."""

    name: str
    content_type: str
    content: str
    disposition: str = "attachment"
    content_id: str = ""


class Message(msgspec.Struct, frozen=True):
    """One email for one attempt.

    `attempt_id` is the UUIDv7 of the attempt that carries it; a failover carries the same words under a new attempt id.
    `html` or `text` may be "" but not both. `metadata` are the caller's custom args; the attempt id wins over them.
    """

    attempt_id: str
    tenant: int
    sender: Address
    to: tuple[Address, ...]
    subject: str
    html: str
    text: str
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: Address | None = None
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
