"""A job: one email that somebody wants sent, decoded and validated, before it is rendered.

`decode` (mail/decode.py) turns a record's bytes into jobs; this module only says what a job is.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec

from mail.message import Address, Attachment

Priority = Literal["high", "normal", "low"]
Lane = Literal["high", "normal", "bulk"]


class Inline(msgspec.Struct, frozen=True):
    """The content of a content request: its parts, and what to put where in them.

    A substitution `name` replaces `-name-` and `{{name}}`; a value that equals the name of a section stands for that section's text.
    """

    subject: str
    text: str
    html: str
    substitutions: dict[str, str]
    sections: dict[str, str]


class Job(msgspec.Struct, frozen=True):
    """One email. `template` is "inline" where `inline` holds the content. `to` has at least one address; the first is the recipient.

    `index` counts the personalizations of one content request (None for a template job): with the record's bytes it finds
    this email again. `content_hash` (32 bytes) tells whether the same id came with other content.
    `max_retries` None = the service's default. `provider` pins one ESP ("" = any).
    """

    tenant: int
    job_id: str
    type: str
    template: str
    to: tuple[Address, ...]
    content_hash: bytes
    index: int | None = None
    user_id: str = ""
    data: dict[str, Any] = {}
    inline: Inline | None = None
    sender: Address | None = None
    reply_to: Address | None = None
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    priority: Priority = "normal"
    scheduled_at: datetime | None = None
    expires_at: datetime | None = None
    retry_count: int = 0
    max_retries: int | None = None
    campaign_id: str = ""
    batch_id: int = 0
    locale: str = ""
    provider: str = ""

    @property
    def recipient(self) -> Address:
        return self.to[0]


class Cancel(msgspec.Struct, frozen=True):
    """Stop a scheduled or waiting job of this id, also one that has not come yet."""

    tenant: int
    job_id: str


def lane_of(priority: str, campaign_id: str) -> Lane:
    """The lane of a row: its priority, where low and campaign recipients are bulk."""
    if priority == "low" or campaign_id:
        return "bulk"
    return "high" if priority == "high" else "normal"
