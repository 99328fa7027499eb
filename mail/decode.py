"""From a record's bytes to jobs: the only door through which work comes in.

Must never raise for any bytes: what cannot be sent comes back as an InvalidJob in the list, with the reason of its dead letter, and
one bad email never takes its neighbours along. Errors name fields, never values, because they reach the logs.
"""

from typing import Any

from mail.content_request import Request, is_content_request, read_email, read_request
from mail.document import Document, parse
from mail.errors import InvalidJob
from mail.job import Cancel, Job
from mail.limits import MAX_JOB_ID, MAX_MESSAGE_ID, DecodeLimits
from mail.template_job import read_template_job


def decode(value: bytes, limits: DecodeLimits) -> list[Job | Cancel | InvalidJob]:
    """Everything that `value` asks for: one item for a template job or a cancel, one per personalization for a content request."""
    try:
        document = parse(value, limits.max_job_bytes)
    except InvalidJob as problem:
        return [_identified(problem, None, 0)]
    if not _is_content(document):
        return [_read_template_job(document, limits)]
    request = _read_request(document, limits)
    if isinstance(request, InvalidJob):
        return [request]
    return [_read_email(request, index, limits) for index in range(len(request.emails))]


def decode_one(value: bytes, index: int | None, limits: DecodeLimits) -> Job | InvalidJob:
    """One email of a stored payload: `index` counts the emails of a content request, None stands for a template job."""
    try:
        document = parse(value, limits.max_job_bytes)
    except InvalidJob as problem:
        return _identified(problem, None, 0, index)
    if _is_content(document) != (index is not None):
        kind = "a template job has no items" if index is not None else "a content request needs the index of its email"
        return InvalidJob("invalid-job", f"index: {kind}", index=index)
    if index is None:
        job = _read_template_job(document, limits)
        return InvalidJob("invalid-job", "type: a cancel is no email", job.job_id, job.tenant) if isinstance(job, Cancel) else job
    request = _read_request(document, limits)
    if isinstance(request, InvalidJob):
        return _identified(request, request.job_id, request.tenant, index)
    return _read_email(request, index, limits)


def _is_content(document: Document) -> bool:
    fields = document.fields
    return "recipient" not in fields and "recipients" not in fields and is_content_request(fields)


def _read_template_job(document: Document, limits: DecodeLimits) -> Job | Cancel | InvalidJob:
    try:
        return read_template_job(document, limits)
    except InvalidJob as problem:
        return _identified(problem, _peek_id(document.fields, "id", MAX_JOB_ID), _peek_tenant(document.fields, "tenant"))


def _read_request(document: Document, limits: DecodeLimits) -> Request | InvalidJob:
    try:
        return read_request(document, limits)
    except InvalidJob as problem:
        fields = {key.lower(): value for key, value in document.fields.items()}
        return _identified(problem, _peek_id(fields, "messageid", MAX_MESSAGE_ID), _peek_tenant(fields, "userid"))


def _read_email(request: Request, index: int, limits: DecodeLimits) -> Job | InvalidJob:
    try:
        return read_email(request, index, limits)
    except InvalidJob as problem:
        return _identified(problem, f"{request.message_id}:{index}", request.tenant, index)


def _identified(problem: InvalidJob, job_id: str | None, tenant: int, index: int | None = None) -> InvalidJob:
    # a new one, because the caught one holds its traceback, and with that the whole record
    return InvalidJob(problem.reason, problem.error, job_id, tenant, index)


def _peek_id(fields: dict[str, Any], name: str, max_length: int) -> str | None:
    """The id of a job that is refused, where it is one that a table can hold."""
    raw = fields.get(name)
    return raw if isinstance(raw, str) and 0 < len(raw) <= max_length and raw.isprintable() else None


def _peek_tenant(fields: dict[str, Any], name: str) -> int:
    raw = fields.get(name)
    return raw if type(raw) is int and 0 <= raw < 2**63 else 0
