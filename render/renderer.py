"""The renderer: a job and its template, or its own content, become one message. Rendered once, the same words for every ESP.

Job data is only ever data: no field of a job is compiled, searched for placeholders or printed unescaped into HTML. The
renderer belongs to one thread of one process; rendering touches nothing outside its arguments.
"""

from typing import Any

from mail.errors import RenderError
from mail.job import Job
from mail.message import Address, Message
from mail.template import Template
from render.headers import check_message
from render.substitutions import Substituter
from render.templates import TemplateCompiler


class Renderer:
    """Keeps compiled templates and the places of placeholders; one per worker."""

    def __init__(self) -> None:
        self._templates = TemplateCompiler()
        self._substituter = Substituter()

    def render(self, job: Job, template: Template | None, attempt_id: str, sender: Address, reply_to: Address | None = None) -> Message:
        """The message of this job for this attempt; `sender` and `reply_to` serve where the job names none of its own.

        Raises RenderError, whose `reason` is one of the dead-letter reasons.
        """
        subject, html, text = self._content(job, template)
        message = Message(
            attempt_id=attempt_id,
            tenant=job.tenant,
            sender=job.sender or sender,
            to=job.to,
            subject=subject,
            html=html,
            text=text,
            cc=job.cc,
            bcc=job.bcc,
            reply_to=job.reply_to or reply_to,
            headers=job.headers,
            attachments=job.attachments,
            tags=job.tags,
            metadata=job.metadata,
        )
        check_message(message)
        return message

    def _content(self, job: Job, template: Template | None) -> tuple[str, str, str]:
        if job.inline is not None:
            subject, html, text = self._substituter.fill(job.inline)
        else:
            compiled = self._templates.compiled(_usable(template, job.template))
            subject, html, text = compiled.render(self._names(job))
        if not html.strip():
            html = ""
        if not text.strip():
            text = ""
        if not (html or text):
            raise RenderError("render-error", f"template {job.template}: neither the HTML nor the text part says anything")
        for part in (html, text):
            _check_characters(part)
        _check_encodable(subject)
        return subject.strip(" "), html, text

    def _names(self, job: Job) -> dict[str, Any]:
        """What a template sees. The last three win over keys of the same name in the job's data."""
        return {
            **self._templates.globals,
            **job.data,
            "recipient": {"email": job.recipient.email, "name": job.recipient.name, "userId": job.user_id},
            "job": {"id": job.job_id, "type": job.type, "locale": job.locale},
            "data": job.data,
        }


def _usable(template: Template | None, name: str) -> Template:
    if template is None:
        raise RenderError("unknown-template", f"there is no template {name}")
    if not template.is_active:
        raise RenderError("inactive-template", f"template {template.name} is switched off")
    return template


def _check_characters(part: str) -> None:
    """NUL and lone surrogates can come out of a template's own string literals, whatever the data was."""
    if "\0" in part:
        raise RenderError("render-error", "the content holds a NUL character")
    _check_encodable(part)


def _check_encodable(part: str) -> None:
    if part.isascii():
        return
    try:
        part.encode()
    except UnicodeEncodeError:
        raise RenderError("render-error", "the content holds half of a surrogate pair") from None
