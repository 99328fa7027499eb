"""What SocketLabs refuses: a whole request, one message, or single addresses of it, each with its ErrorCode.

Rules only judge; they must never change a message. Names are read without regard to case, as its own SDKs write them in three ways.
Where no source tells a cap of the API, the SDKs' or the oldest guide's holds here, so that a sender keeps clear of the real one.
"""

import binascii
import re
from typing import Any, NamedTuple

from sandbox.fakes import socketlabs_merge as merge

MAX_MESSAGES = 10
MAX_RECIPIENTS = 50
MAX_MESSAGE_BYTES = 40_000_000
MAX_ID_CHARACTERS = 30
MAX_METADATA_PAIRS = 10
MAX_PAIR_CHARACTERS = 99
MAX_TAGS = 25
MAX_LABEL_BYTES = 12_500
_IDS = re.compile(r"[0-9A-Za-z-]*")
_ADDRESS = re.compile(r"[^\s@<>(),;:\\\"\[\]]+@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+")
_TEXTS = ("subject", "htmlbody", "textbody", "ampbody", "charset", "mailingid", "messageid")
_LISTS = ("to", "cc", "bcc", "customheaders", "metadata", "tags", "attachments")
Fields = dict[str, Any]


class RefusedRequest(Exception):
    """Nothing of the request is injected."""

    def __init__(self, code: str):
        super().__init__(code)
        self.code = code


class Verdict(NamedTuple):
    """`code` "" = fine, "Warning" = some of its addresses are refused. `recipients` are those who get it."""

    code: str
    recipients: list[str]
    refused: list[str]


def folded(value: Any) -> Any:
    """The same with every name in lower case."""
    if isinstance(value, dict):
        return {name.lower(): folded(inner) for name, inner in value.items()}
    return [folded(inner) for inner in value] if isinstance(value, list) else value


def check_request(messages: Any) -> None:
    """Raises RefusedRequest with the first thing that concerns all of it."""
    if messages is not None and not isinstance(messages, list):
        raise RefusedRequest("InvalidData")
    if not messages:
        raise RefusedRequest("NoMessages")
    if len(messages) > MAX_MESSAGES:
        raise RefusedRequest("TooManyMessages")
    for message in messages:
        _check_shape(message)


def check_message(message: Fields, sender_domains: frozenset[str], templates: frozenset[str]) -> Verdict:
    """Judge one message of the right shape."""
    code = _content_problem(message, sender_domains, templates)
    if code:
        return Verdict(code, [], [])
    everybody = _everybody(message)
    refused = [address for address in everybody if not _ADDRESS.fullmatch(address)]
    return split(everybody, refused)


def _everybody(message: Fields) -> list[str]:
    """Whom a message goes to; where it is merged, one for each row, and whoever else it names each time."""
    named = [entry["emailaddress"] for field in ("to", "cc", "bcc") for entry in message.get(field) or ()]
    if not merge.is_merge(message):
        return named
    rows = [copy.values[merge.ADDRESS] for copy in merge.copies([message]) if copy.values]
    return rows + [address for address in named if "%%" not in address]


def split(everybody: list[str], refused: list[str]) -> Verdict:
    """The verdict on a message of which these addresses are refused."""
    if not refused:
        return Verdict("", everybody, [])
    left = [address for address in everybody if address not in refused]
    return Verdict("Warning" if left else "NoValidRecipients", left, refused)


def _check_shape(message: Any) -> None:
    if not isinstance(message, dict):
        raise RefusedRequest("InvalidData")
    is_sound = all(isinstance(message.get(name) or "", str) for name in _TEXTS)
    is_sound = is_sound and all(isinstance(message.get(name) or [], list) for name in _LISTS)
    people = [entry for field in ("to", "cc", "bcc") for entry in message.get(field) or ()] if is_sound else []
    people += [message[field] for field in ("from", "replyto") if message.get(field)]
    if not is_sound or not all(_is_person(entry) for entry in people):
        raise RefusedRequest("InvalidData")
    _check_labels(message)
    named = len(people) - bool(message.get("from")) - bool(message.get("replyto"))
    if max(named, sum(1 for _ in merge.copies([message]))) > MAX_RECIPIENTS:
        raise RefusedRequest("TooManyRecipients")
    if not any(message.get(name) for name in ("subject", "htmlbody", "textbody", "apitemplate")):
        raise RefusedRequest("EmptyMessage")


def _is_person(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("emailaddress"), str) and isinstance(entry.get("friendlyname") or "", str)


def _check_labels(message: Fields) -> None:
    ids = (message.get("messageid") or "") + (message.get("mailingid") or "")
    pairs, tags = message.get("metadata") or [], message.get("tags") or []
    if len(ids) > MAX_ID_CHARACTERS or not _IDS.fullmatch(ids):
        raise RefusedRequest("InvalidData")
    if len(pairs) > MAX_METADATA_PAIRS or len(tags) > MAX_TAGS:
        raise RefusedRequest("InvalidData")
    if not all(isinstance(tag, str) for tag in tags) or not all(_is_pair(pair) for pair in pairs):
        raise RefusedRequest("InvalidData")
    size_bytes = sum(len(f"{pair['key']}{pair['value']}".encode()) for pair in pairs) + sum(len(tag.encode()) for tag in tags)
    if size_bytes > MAX_LABEL_BYTES:
        raise RefusedRequest("InvalidData")


def _is_pair(pair: Any) -> bool:
    if not isinstance(pair, dict) or not isinstance(pair.get("key"), str) or not isinstance(pair.get("value"), str):
        return False
    return len(pair["key"]) > 0 and len(pair["key"]) + len(pair["value"]) <= MAX_PAIR_CHARACTERS


def _content_problem(message: Fields, sender_domains: frozenset[str], templates: frozenset[str]) -> str:
    """The ErrorCode of the first thing that is wrong, "" where nothing is."""
    sender = (message.get("from") or {}).get("emailaddress", "")
    bodies = [message.get(name) for name in ("htmlbody", "textbody", "ampbody")]
    template = message.get("apitemplate")
    problems = {
        "EmptyToAddress": not message.get("to"),
        "InvalidFromAddress": not _may_send(sender, sender_domains),
        "EmptySubject": not message.get("subject"),
        "MessageBodyConflict": bool(template) and any(bodies),
        "InvalidTemplateId": bool(template) and bool(templates) and template not in templates,
        "NoValidBodyParts": not template and not any(bodies[:2]),
        "InvalidMergeData": not merge.is_sound(message.get("mergedata") or {}),
        "InvalidAttachment": not all(_is_attachment(part) for part in message.get("attachments") or ()),
        "MessageTooLarge": _size_bytes(message) > MAX_MESSAGE_BYTES,
    }
    return next((code for code, is_wrong in problems.items() if is_wrong), "")


def _may_send(sender: str, domains: frozenset[str]) -> bool:
    return _ADDRESS.fullmatch(sender) is not None and (not domains or sender.rpartition("@")[2].lower() in domains)


def _is_attachment(part: Any) -> bool:
    if not isinstance(part, dict) or not all(isinstance(part.get(name), str) and part[name] for name in ("name", "content", "contenttype")):
        return False
    try:
        binascii.a2b_base64(part["content"], strict_mode=True)
    except ValueError:
        return False
    return True


def _size_bytes(message: Fields) -> int:
    texts = sum(len((message.get(name) or "").encode()) for name in ("subject", "htmlbody", "textbody", "ampbody"))
    return texts + sum(len(part["content"]) for part in message.get("attachments") or () if _is_attachment(part))
