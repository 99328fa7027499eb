"""Template jobs: one email that names a stored template, and the cancelling of one. Wire format, section 1.

Must never guess: a field of the wrong type is refused with its name, an unknown field is ignored.
"""

from typing import Any

import msgspec

from mail.addresses import read_address, read_addresses, without_repeats
from mail.attachments import TEMPLATE_JOB_KEYS, read_attachments
from mail.document import Document, hash_content, refuse_nul
from mail.errors import InvalidJob
from mail.fields import convert, read_time, refuse_unprintable
from mail.header_text import read_headers, read_tags
from mail.job import Cancel, Job, Priority
from mail.limits import MAX_USER_ID, BigInt, Count, DecodeLimits, JobId, Name
from mail.message import Address
from mail.template import JOB_TYPES

_TYPES = frozenset(JOB_TYPES)
_PRIORITIES: dict[str | None, Priority] = {"high": "high", "normal": "normal", "low": "low", "": "normal", None: "normal"}


class _TemplateJob(msgspec.Struct, frozen=True, rename="camel"):
    id: JobId
    recipient: Any = None
    recipients: Any = None
    type: str | None = None
    template: Name | None = None
    data: dict[str, Any] | None = None
    priority: str | None = None
    scheduled_at: str | None = None
    expires_at: str | None = None
    retry_count: Count | None = None
    max_retries: Count | None = None
    tenant: BigInt | None = None


class _Extras(msgspec.Struct, frozen=True, rename="camel"):
    """What most jobs do not have, read apart so that they do not pay for it."""

    sender: Any = msgspec.field(default=None, name="from")
    reply_to: Any = None
    cc: Any = None
    bcc: Any = None
    headers: dict[str, str | list[str]] | None = None
    attachments: list[dict[str, Any]] | None = None
    tags: list[str] | None = None
    campaign_id: Name | None = None
    batch_id: BigInt | None = None
    locale: Name | None = None
    provider: str | None = None


_EXTRA_KEYS = frozenset(field.encode_name for field in msgspec.structs.fields(_Extras))


class _Cancel(msgspec.Struct, frozen=True):
    id: JobId
    tenant: BigInt | None = None


def read_template_job(document: Document, limits: DecodeLimits) -> Job | Cancel:
    """The job or cancel that `document` holds; raises InvalidJob with the reason of the dead letter."""
    if document.may_hold_nul:
        refuse_nul(document.fields, "")
    kind = document.fields.get("type")
    if kind == "cancel":
        return _read_cancel(document.fields)
    if kind == "bulk":
        raise InvalidJob("not-allowed", "type: bulk campaigns are not taken by this version; send one template job per recipient")
    job = _build(convert(document.fields, _TemplateJob, ""))
    if _EXTRA_KEYS.isdisjoint(document.fields):
        return job
    return _with_extras(job, convert(document.fields, _Extras, ""), limits)


def _read_cancel(fields: dict[str, Any]) -> Cancel:
    cancel = convert(fields, _Cancel, "")
    refuse_unprintable(cancel.id, "id")
    return Cancel(cancel.tenant or 0, cancel.id)


def _build(raw: _TemplateJob) -> Job:
    type_, template = _read_type(raw)
    recipient, user_id = _read_recipient(raw)
    data = raw.data or {}
    return Job(
        tenant=raw.tenant or 0,
        job_id=_read_identifier(raw.id, "id"),
        type=type_,
        template=template,
        to=(recipient,),
        content_hash=hash_content(recipient.email, recipient.name, user_id, type_, template, data),
        user_id=user_id,
        data=data,
        priority=_read_priority(raw.priority),
        scheduled_at=read_time(raw.scheduled_at, "scheduledAt"),
        expires_at=read_time(raw.expires_at, "expiresAt"),
        retry_count=raw.retry_count or 0,
        max_retries=raw.max_retries,
    )


def _with_extras(job: Job, raw: _Extras, limits: DecodeLimits) -> Job:
    at_most = limits.max_recipients
    cc, bcc = read_addresses(raw.cc, "cc", at_most), read_addresses(raw.bcc, "bcc", at_most)
    if 1 + len(cc) + len(bcc) > at_most:
        raise InvalidJob("invalid-job", f"cc: recipient, cc and bcc must have at most {at_most} addresses together")
    _, cc, bcc = without_repeats(job.to, cc, bcc)
    return msgspec.structs.replace(
        job,
        sender=_read_optional_address(raw.sender, "from"),
        reply_to=_read_optional_address(raw.reply_to, "replyTo"),
        cc=cc,
        bcc=bcc,
        headers=read_headers(raw.headers, "headers"),
        attachments=read_attachments(raw.attachments, TEMPLATE_JOB_KEYS, "attachments"),
        tags=read_tags(raw.tags, "tags"),
        campaign_id=_read_identifier(raw.campaign_id, "campaignId"),
        batch_id=raw.batch_id or 0,
        locale=_read_identifier(raw.locale, "locale"),
        provider=_read_provider(raw.provider, limits.providers),
    )


def _read_type(raw: _TemplateJob) -> tuple[str, str]:
    """The job's type and its template: one of the 15 types names the template where none is given."""
    type_, template = raw.type or "email", _read_identifier(raw.template, "template")
    if not raw.type and not template:
        raise InvalidJob("invalid-job", "type: neither a type nor a template is given; name one of them")
    if type_ != "email" and type_ not in _TYPES:
        raise InvalidJob("invalid-job", "type: is not known; use email, cancel or one of the 15 job types")
    if type_ == "email" and not template:
        raise InvalidJob("invalid-job", "template: is missing; type email needs one")
    return type_, template or type_


def _read_recipient(raw: _TemplateJob) -> tuple[Address, str]:
    if raw.recipients:
        raise InvalidJob("invalid-job", "recipients: only a bulk job has them; send one job per recipient, each with `recipient`")
    if raw.recipient is None:
        raise InvalidJob("invalid-job", "recipient: is missing")
    user_id = raw.recipient.get("userId") if type(raw.recipient) is dict else None
    return read_address(raw.recipient, "recipient"), "" if user_id is None else _read_user_id(user_id)


def _read_user_id(raw: object) -> str:
    text = str(raw) if type(raw) is int else raw
    if type(text) is not str:
        raise InvalidJob("invalid-job", "recipient.userId: must be a string")
    if len(text) > MAX_USER_ID:
        raise InvalidJob("invalid-job", f"recipient.userId: must have at most {MAX_USER_ID} characters")
    return _read_identifier(text, "recipient.userId")


def _read_identifier(text: str | None, path: str) -> str:
    if text and not text.isprintable():
        refuse_unprintable(text, path)
    return text or ""


def _read_optional_address(raw: object, path: str) -> Address | None:
    return None if raw is None or raw == "" else read_address(raw, path)


def _read_priority(text: str | None) -> Priority:
    try:
        return _PRIORITIES[text]
    except KeyError:
        raise InvalidJob("invalid-job", "priority: is not known; use high, normal or low") from None


def _read_provider(name: str | None, known: frozenset[str] | None) -> str:
    if name and known is not None and name not in known:
        raise InvalidJob("invalid-job", f"provider: is not known; use one of {', '.join(sorted(known))}")
    return name or ""
