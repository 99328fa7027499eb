"""What SparkPost refuses in a transmission, with its codes; single recipients are only counted out.

Rules only judge; they must never change a transmission. Unknown fields are ignored, as the real one does.
"""

import binascii
import re
from datetime import datetime
from typing import Any

import orjson

from sandbox.fakes.sparkpost_language import SyntaxProblem, Template, compile_template

MAX_CONTENT_BYTES = 20 * 1024 * 1024
MAX_SUBSTITUTION_BYTES = 100 * 1024
MAX_METADATA_BYTES = 10 * 1024
MAX_CAMPAIGN_BYTES = 64
MAX_DESCRIPTION_BYTES = 1024
MAX_NAME_BYTES = 255
MAX_TAGS = 10
MAX_AHEAD_S = 3 * 86_400
_MAX_NUMBER = 2**31
_FORBIDDEN_HEADERS = frozenset({"subject", "from", "to", "reply-to"})
_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+"
_ADDRESS = re.compile(rf"[^\s@<>(),;:\\\"\[\]]+@{_DOMAIN}")
Fields = dict[str, Any]


class Refused(Exception):
    """Nothing of the transmission is taken."""

    def __init__(self, status: int, code: str, message: str, description: str = ""):
        super().__init__(status, code, description)
        self.status = status
        self.code = code
        self.message = message
        self.description = description


def check_transmission(body: Any, sender_domains: frozenset[str], now: float) -> None:
    """Judge all but the single recipients; raises Refused with the first thing that is wrong."""
    if not isinstance(body, dict):
        raise wrong_type("the transmission is a JSON object")
    if not body.get("recipients"):
        raise _missing("recipients or list_id required")
    if not isinstance(body["recipients"], list):
        raise Refused(404, "1600", "resource not found", "List does not exist")
    if not body.get("content"):
        raise _missing("content object or template_id required")
    _check_labels(body)
    _check_options(body.get("options") or {}, now)
    _check_content(body["content"], sender_domains)
    for recipient in body["recipients"]:
        _check_data(recipient if isinstance(recipient, dict) else {}, body.get("metadata") or {})
    compiled(body)


def recipient_problem(recipient: Any) -> tuple[str, str, str] | None:
    """Why a recipient is counted out (message, description, code), or None."""
    if not isinstance(recipient, dict) or not recipient.get("address"):
        return "required field is missing", "address is required for each recipient", "1400"
    email = email_of(recipient)
    if not email:
        return "required field is missing", "address.email is required for each recipient", "1400"
    if not _ADDRESS.fullmatch(email):
        return "invalid data format/type", "address.email is not a valid email address", "1300"
    return None


def email_of(recipient: Fields) -> str:
    address = recipient["address"]
    email = address.get("email") if isinstance(address, dict) else address
    return email if isinstance(email, str) else ""


def compiled(body: Fields) -> dict[str, Template]:
    """The templates of a transmission by name, headers as "header:<name>". Raises Refused over what cannot be read.

    Headers, the subject and addresses among them, are templates even where substitutions are switched off.
    """
    content = body["content"]
    is_substituted = (body.get("options") or {}).get("perform_substitutions", True)
    sender = content["from"]
    texts = {"subject": content["subject"], "reply_to": content.get("reply_to") or "", "from": spelled_sender(sender)}
    texts |= {f"header:{name}": value for name, value in (content.get("headers") or {}).items()}
    parts = {name: content[name] for name in ("text", "html") if content.get(name)}
    try:
        templates = {name: compile_template(text) for name, text in texts.items()}
        for name, text in parts.items():
            templates[name] = compile_template(text, is_html=name == "html") if is_substituted else [text]
    except SyntaxProblem as problem:
        raise Refused(422, "3000", "substitution language syntax error in template content", str(problem)) from problem
    return templates


def spelled_sender(sender: Any) -> str:
    if isinstance(sender, str):
        return sender
    return f"{sender['name']} <{sender['email']}>" if sender.get("name") else str(sender["email"])


def wrong_type(description: str) -> Refused:
    return Refused(422, "1300", "invalid data format/type", description)


def _missing(description: str) -> Refused:
    return Refused(422, "1400", "required field is missing", description)


def _check_labels(body: Fields) -> None:
    if len(str(body.get("campaign_id") or "").encode()) > MAX_CAMPAIGN_BYTES:
        raise Refused(422, "1301", "invalid data combination", f"campaign_id has at most {MAX_CAMPAIGN_BYTES} bytes")
    if len(str(body.get("description") or "").encode()) > MAX_DESCRIPTION_BYTES:
        raise Refused(422, "1301", "invalid data combination", f"description has at most {MAX_DESCRIPTION_BYTES} bytes")
    _check_data(body, {})


def _check_data(holder: Fields, shared_metadata: Fields) -> None:
    """Substitution data and metadata, of the transmission or of one recipient, who inherits the former's metadata."""
    data, metadata = holder.get("substitution_data") or {}, holder.get("metadata") or {}
    if not isinstance(data, dict) or not isinstance(metadata, dict):
        raise wrong_type("substitution_data and metadata are objects")
    if len(orjson.dumps(data)) > MAX_SUBSTITUTION_BYTES:
        raise Refused(422, "2002", "substitution data too large", "at most 100KB")
    if len(orjson.dumps({**shared_metadata, **metadata})) > MAX_METADATA_BYTES:
        raise Refused(422, "2007", "metadata too large", "at most 10KB")
    if _has_big_number(data) or _has_big_number(metadata):
        raise wrong_type("numbers have 32 bits")
    tags = holder.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise wrong_type("tags are an array of strings")
    if len(tags) > MAX_TAGS:
        raise Refused(422, "1301", "invalid data combination", f"a recipient has at most {MAX_TAGS} tags")


def _has_big_number(value: Any) -> bool:
    """A whole number that is none of 32 bits with a sign, at any depth."""
    if isinstance(value, dict):
        return any(_has_big_number(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_has_big_number(inner) for inner in value)
    return isinstance(value, int) and not -_MAX_NUMBER <= value < _MAX_NUMBER


def _check_options(options: Any, now: float) -> None:
    if not isinstance(options, dict):
        raise wrong_type("options are an object")
    for name in ("open_tracking", "click_tracking", "transactional", "perform_substitutions", "sandbox", "inline_css"):
        if name in options and not isinstance(options[name], bool):
            raise wrong_type(f"options.{name} is a boolean")
    if options.get("sandbox"):
        raise Refused(422, "2106", "invalid sandbox template", "the sandbox domain sends my-first-email only")
    if "start_time" in options:
        _check_start(options["start_time"], now)


def _check_start(value: Any, now: float) -> None:
    try:
        start = now if value == "now" else datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError):
        raise wrong_type("options.start_time is YYYY-MM-DDTHH:MM:SS+-HH:MM or now") from None
    if start > now + MAX_AHEAD_S:
        raise Refused(422, "1301", "invalid data combination", "options.start_time is at most 3 days ahead")


def _check_content(content: Any, sender_domains: frozenset[str]) -> None:
    if not isinstance(content, dict):
        raise wrong_type("content is an object")
    if content.get("template_id"):
        raise Refused(422, "1603", "subresource not found", "template does not exist")
    for name in ("subject", "text", "html", "reply_to"):
        if not isinstance(content.get(name) or "", str):
            raise wrong_type(f"content.{name} is a string")
    _check_sender(content.get("from"), sender_domains)
    if not content.get("subject"):
        raise _missing("content.subject is required")
    if not content.get("text") and not content.get("html"):
        raise _missing("at least one of text or html needs to exist in content")
    _check_headers(content.get("headers") or {})
    parts = [*_parts(content, "attachments"), *_parts(content, "inline_images")]
    size_bytes = sum(len((content.get(name) or "").encode()) for name in ("text", "html")) + sum(len(part["data"]) for part in parts)
    if size_bytes > MAX_CONTENT_BYTES:
        raise Refused(413, "1301", "content too large", "at most 20MB")


def _check_sender(sender: Any, sender_domains: frozenset[str]) -> None:
    email = sender.get("email") if isinstance(sender, dict) else sender
    if not email:
        raise _missing("content.from is required")
    if not isinstance(email, str) or not isinstance((sender.get("name") if isinstance(sender, dict) else "") or "", str):
        raise wrong_type("content.from is an address")
    if email.startswith("@"):
        raise Refused(400, "2008", "no local part in sender address")
    if not _ADDRESS.fullmatch(email):
        raise wrong_type("content.from is not a valid email address")
    domain = email.rpartition("@")[2].lower()
    if sender_domains and domain not in sender_domains:
        raise Refused(400, "7001", "Invalid domain", f"Unconfigured Sending Domain <{domain}>")


def _check_headers(headers: Any) -> None:
    if not isinstance(headers, dict):
        raise wrong_type("content.headers is an object")
    for name, value in headers.items():
        if name.lower() in _FORBIDDEN_HEADERS or name.lower().startswith("content-"):
            raise Refused(422, "3002", "invalid header", f"{name} is not allowed")
        if not isinstance(value, str) or any(character in name + value for character in "\r\n"):
            raise Refused(422, "3002", "invalid header", f"{name} is not a line of text")


def _parts(content: Fields, field: str) -> list[Fields]:
    parts = content.get(field) or []
    if not isinstance(parts, list) or not all(_is_part(part) for part in parts):
        raise wrong_type(f"content.{field} have name, type and data in base64 without line breaks")
    names = [part["name"] for part in parts]
    if field == "inline_images" and len(set(names)) < len(names):
        raise Refused(422, "1301", "invalid data combination", "names of inline images are unique")
    return parts


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not all(isinstance(part.get(name), str) and part[name] for name in ("name", "type", "data")):
        return False
    try:
        binascii.a2b_base64(part["data"], strict_mode=True)
    except ValueError:
        return False
    return len(part["name"].encode()) <= MAX_NAME_BYTES
