"""Content requests: one body, and one email for each personalization. Wire format, section 2.

Field names match without regard to case. What is wrong in the body refuses the request; what is wrong in a personalization refuses
that email only. Must never copy the body for each email: a thousand of them share its strings.
"""

from typing import Any

import msgspec

from mail.addresses import read_address, read_addresses, without_repeats
from mail.attachments import CONTENT_REQUEST_KEYS, read_attachments
from mail.document import Document, hash_content, refuse_nul
from mail.errors import InvalidJob
from mail.fields import convert, read_texts, refuse_unprintable, spell, spelling
from mail.header_text import read_headers, read_metadata, read_subject, read_tags
from mail.job import Inline, Job
from mail.limits import BigInt, DecodeLimits, MessageId
from mail.message import Address, Attachment

_TOP = spelling("BatchID", "MessageID", "UserID", "body")
_BODY = spelling(
    *("From", "ReplyTo", "To", "Cc", "Bcc", "Subject", "TextBody", "HtmlBody", "Content", "Attachments", "Headers", "custom_args"),
    *("Sections", "Categories", "Personalizations"),
)
_EMAIL = spelling("To", "Cc", "Bcc", "Subject", "Substitutions")
_PART = spelling("type", "value")
_ADDRESS = spelling("email", "name")
_ATTACHMENT = spelling("content", "filename", "type", "disposition", "content_id")


class _Top(msgspec.Struct, frozen=True):
    message_id: MessageId = msgspec.field(name="MessageID")
    body: dict[str, Any]
    user_id: BigInt | None = msgspec.field(default=None, name="UserID")
    batch_id: BigInt | None = msgspec.field(default=None, name="BatchID")


class _Body(msgspec.Struct, frozen=True, rename="pascal"):
    sender: Any = msgspec.field(default=None, name="From")
    reply_to: Any = None
    to: Any = None
    cc: Any = None
    bcc: Any = None
    subject: str | None = None
    text_body: str | None = None
    html_body: str | None = None
    content: list[dict[str, Any]] | None = None
    attachments: list[dict[str, Any]] | None = None
    headers: dict[str, str | list[str]] | None = None
    custom_args: dict[str, Any] | None = msgspec.field(default=None, name="custom_args")
    sections: dict[str, Any] | None = None
    categories: str | list[str] | None = None
    personalizations: list[Any] | None = None


class _Part(msgspec.Struct, frozen=True):
    type: str
    value: str


class _Email(msgspec.Struct, frozen=True, rename="pascal"):
    to: Any = None
    cc: Any = None
    bcc: Any = None
    subject: str | None = None
    substitutions: dict[str, Any] | None = None


class Request(msgspec.Struct, frozen=True):
    """What all emails of one request share, checked once, and `emails`: what each of them brings, unchecked, from the field `origin`."""

    message_id: str
    tenant: int
    batch_id: int
    sender: Address | None
    reply_to: Address | None
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    subject: str
    text: str
    html: str
    sections: dict[str, str]
    attachments: tuple[Attachment, ...]
    headers: tuple[tuple[str, str], ...]
    metadata: tuple[tuple[str, str], ...]
    tags: tuple[str, ...]
    content_hash: bytes
    origin: str
    emails: list[Any]
    may_hold_nul: bool


def is_content_request(fields: dict[str, Any]) -> bool:
    """Whether these keys are those of a content request, in whatever case."""
    return {"body", "messageid"} <= {key.lower() for key in fields}


def read_request(document: Document, limits: DecodeLimits) -> Request:
    """The shared part of a content request; raises InvalidJob where no email of it can be sent."""
    top = convert(spell(document.fields, _TOP), _Top, "")
    refuse_unprintable(top.message_id, "MessageID")
    fields = spell(top.body, _BODY)
    if document.may_hold_nul:
        refuse_nul({name: value for name, value in fields.items() if name not in ("To", "Personalizations")}, "body")
    body = convert(fields, _Body, "body")
    origin, emails = _list_emails(body, limits)
    sender = _read_optional_address(body.sender, "body.From")
    text, html = _read_content(body)
    sections = read_texts(body.sections, "body.Sections")
    return Request(
        message_id=top.message_id,
        tenant=top.user_id or 0,
        batch_id=top.batch_id or 0,
        sender=sender,
        reply_to=_read_optional_address(body.reply_to, "body.ReplyTo"),
        cc=_addresses(body.cc, "body.Cc", limits),
        bcc=_addresses(body.bcc, "body.Bcc", limits),
        subject=read_subject(body.subject or "", "body.Subject", limits.max_subject),
        text=text,
        html=html,
        sections=sections,
        attachments=_read_attachments(body.attachments),
        headers=read_headers(body.headers, "body.Headers"),
        metadata=read_metadata(read_texts(body.custom_args, "body.custom_args"), "body.custom_args"),
        tags=_read_categories(body.categories),
        content_hash=hash_content(sender, text, html, sections),
        origin=origin,
        emails=emails,
        may_hold_nul=document.may_hold_nul,
    )


def read_email(request: Request, index: int, limits: DecodeLimits) -> Job:
    """The email number `index` of a request; raises InvalidJob (also where there is no such email)."""
    if not 0 <= index < len(request.emails):
        raise InvalidJob("invalid-job", f"{request.origin}: has no item {index}")
    path = f"{request.origin}[{index}]"
    email = _read_email_fields(request, request.emails[index], path)
    to, cc, bcc = _read_recipients(request, email, path, limits)
    inline = _read_inline(request, email, path, limits)
    return Job(
        tenant=request.tenant,
        job_id=f"{request.message_id}:{index}",
        type="email",
        template="inline",
        to=to,
        content_hash=hash_content(request.content_hash, to, cc, bcc, inline.subject, inline.substitutions),
        index=index,
        inline=inline,
        sender=request.sender,
        reply_to=request.reply_to,
        cc=cc,
        bcc=bcc,
        headers=request.headers,
        attachments=request.attachments,
        tags=request.tags,
        metadata=request.metadata,
        batch_id=request.batch_id,
    )


def _list_emails(body: _Body, limits: DecodeLimits) -> tuple[str, list[Any]]:
    """Where the emails come from: the personalizations, else each address in To."""
    if body.personalizations:
        origin, emails = "body.Personalizations", body.personalizations
    elif body.to:
        origin, emails = "body.To", body.to if isinstance(body.to, list) else [body.to]
    else:
        raise InvalidJob("invalid-job", "body.To: is missing, and there are no Personalizations")
    if len(emails) > limits.max_personalizations:
        raise InvalidJob("invalid-job", f"{origin}: must have at most {limits.max_personalizations} items")
    return origin, emails


def _read_email_fields(request: Request, raw: Any, path: str) -> _Email:
    if request.may_hold_nul:
        refuse_nul(raw, path)
    if request.origin == "body.To":
        return _Email(to=raw)
    return convert(spell(raw, _EMAIL) if isinstance(raw, dict) else raw, _Email, path)


def _read_recipients(
    request: Request, email: _Email, path: str, limits: DecodeLimits
) -> tuple[tuple[Address, ...], tuple[Address, ...], tuple[Address, ...]]:
    to_path = path if request.origin == "body.To" else f"{path}.To"
    to = _addresses(email.to, to_path, limits)
    if not to:
        raise InvalidJob("invalid-job", f"{to_path}: is missing")
    cc = request.cc if email.cc is None else request.cc + _addresses(email.cc, f"{path}.Cc", limits)
    bcc = request.bcc if email.bcc is None else request.bcc + _addresses(email.bcc, f"{path}.Bcc", limits)
    if len(to) + len(cc) + len(bcc) > limits.max_recipients:
        raise InvalidJob("invalid-job", f"{to_path}: To, Cc and Bcc must have at most {limits.max_recipients} addresses together")
    return without_repeats(to, cc, bcc)


def _read_inline(request: Request, email: _Email, path: str, limits: DecodeLimits) -> Inline:
    subject = read_subject(email.subject, f"{path}.Subject", limits.max_subject) if email.subject else request.subject
    if not subject:
        raise InvalidJob("invalid-job", f"{path}.Subject: is missing, here and in the body")
    own = _read_substitutions(email.substitutions, f"{path}.Substitutions")
    return Inline(subject, request.text, request.html, own, request.sections)


def _read_substitutions(raw: dict[str, Any] | None, path: str) -> dict[str, str]:
    texts = read_texts(raw, path)
    if "" in texts:
        raise InvalidJob("invalid-job", f"{path}: has a substitution without a name")
    return texts


def _read_content(body: _Body) -> tuple[str, str]:
    """The text and the HTML part, from the Content list, else from TextBody and HtmlBody."""
    parts: dict[str, str] = {}
    for index, raw in enumerate(body.content or ()):
        path = f"body.Content[{index}]"
        part = convert(spell(raw, _PART), _Part, path)
        type_ = part.type.partition(";")[0].strip().lower()
        if type_ not in ("text/plain", "text/html"):
            raise InvalidJob("invalid-job", f"{path}.type: must be text/plain or text/html")
        if part.value and parts.setdefault(type_, part.value) != part.value:
            raise InvalidJob("invalid-job", f"{path}.type: stands twice in Content")
    text, html = parts.get("text/plain") or body.text_body or "", parts.get("text/html") or body.html_body or ""
    if not text and not html:
        raise InvalidJob("invalid-job", "body.Content: is missing; give Content, TextBody or HtmlBody")
    return text, html


def _read_attachments(raw: list[dict[str, Any]] | None) -> tuple[Attachment, ...]:
    if not raw:
        return ()
    return read_attachments([spell(one, _ATTACHMENT) for one in raw], CONTENT_REQUEST_KEYS, "body.Attachments")


def _read_categories(raw: str | list[str] | None) -> tuple[str, ...]:
    return read_tags([raw] if isinstance(raw, str) else raw, "body.Categories")


def _read_optional_address(raw: Any, path: str) -> Address | None:
    return None if raw is None or raw == "" else read_address(_spell_address(raw), path)


def _addresses(raw: Any, path: str, limits: DecodeLimits) -> tuple[Address, ...]:
    spelled = [_spell_address(one) for one in raw] if isinstance(raw, list) else _spell_address(raw)
    return read_addresses(spelled, path, limits.max_recipients)


def _spell_address(raw: Any) -> Any:
    return spell(raw, _ADDRESS) if isinstance(raw, dict) else raw
