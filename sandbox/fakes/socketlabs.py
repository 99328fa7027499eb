"""SocketLabs as its sender meets it: POST /api/v1/email.

Nearly everything is answered with 200 and an ErrorCode; a list names only the messages and addresses that failed. There is no id
but the sender's own MessageId.
Rules and codes: SocketLabs' SDKs, its help pages and a public client's list of codes (read 2026-11); the rules are in
socketlabs_rules.py. Nothing here knows the product's adapter.
"""

import re
import secrets
from typing import Any

import orjson

from sandbox.fakes import socketlabs_merge as merge
from sandbox.fakes.contract import Accepted, Answer, Attachment, Call, Mail, is_listed
from sandbox.fakes.socketlabs_rules import Fields, RefusedRequest, Verdict, check_message, check_request, folded, split

_JSON = {"Content-Type": "application/json; charset=utf-8"}
_NEW_KEY = re.compile(r"[^.\s]{20}\.[^.\s]{40}")
_CODES = {401: "InvalidAuthentication", 413: "InvalidData", 429: "OverQuota"}


class Fake:
    """SocketLabs. What it took bears the sender's MessageId; a suppressed address is taken like any other."""

    name = "socketlabs"
    max_body_bytes = 50 * 1024 * 1024

    def answer(self, call: Call) -> Answer:
        if call.path != "/api/v1/email":
            return Answer(404)
        if call.method != "POST":
            return Answer(405)
        if call.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            return Answer(415)
        request = _parse(call.body)
        if not isinstance(request, dict):
            return _refusal("InvalidData")
        if not _is_known(request, call):
            return self.refuse(401)
        return self._inject(request, call)

    def refuse(self, status: int) -> Answer:
        return _refusal(_CODES.get(status, "InternalError"), status)

    def mail(self, body: bytes, item: int) -> Mail:
        messages = _parse(body)["messages"]
        place, values = list(merge.copies(messages))[item]
        message = merge.filled(messages[place], values)
        copies = [("From", [message["from"]]), *[(name.title(), message.get(name)) for name in ("to", "cc", "bcc")]]
        copies.append(("Reply-To", [message["replyto"]] if message.get("replyto") else []))
        headers = [(name, ", ".join(map(_spelled, people))) for name, people in copies if people]
        own = [(header["name"], header["value"]) for header in message.get("customheaders") or ()]
        return Mail(
            message["subject"],
            message.get("htmlbody") or "",
            message.get("textbody") or "",
            [*headers, ("Subject", message["subject"]), *own],
            {pair["key"]: pair["value"] for pair in message.get("metadata") or ()},
            [_attachment(part) for part in message.get("attachments") or ()],
        )

    def _inject(self, request: Fields, call: Call) -> Answer:
        if not call.traits.has_send_scope:
            return _refusal("AccountDisabled")
        if not call.traits.has_credits:
            return _refusal("OverQuota")
        messages: list[Fields] = request.get("messages") or []
        try:
            check_request(messages)
        except RefusedRequest as refused:
            return _refusal(refused.code)
        verdicts = [_judge(message, item, call) for item, message in enumerate(messages)]
        failures = [_result(item, verdict) for item, verdict in enumerate(verdicts) if verdict.code]
        accepted = [
            one for item, copy in enumerate(merge.copies(messages)) for one in _accepted(messages, item, copy, verdicts[copy.place])
        ]
        reply = {"ErrorCode": "Warning" if failures else "Success", "MessageResults": failures or None, "TransactionReceipt": None}
        return Answer(200, orjson.dumps(reply), _JSON, accepted)


def _is_known(request: Fields, call: Call) -> bool:
    """A key of 61 characters belongs into the header, an older one into the body; the server's number always into the body."""
    scheme, _, bearer = call.headers.get("Authorization", "").partition(" ")
    in_body = request.get("apikey") or ""
    key = bearer if scheme == "Bearer" and _NEW_KEY.fullmatch(bearer) else in_body if not scheme else ""
    if not str(request.get("serverid", "")).isdecimal() or not isinstance(key, str) or not key:
        return False
    return not call.traits.key or key == call.traits.key


def _judge(message: Fields, item: int, call: Call) -> Verdict:
    traits = call.traits
    verdict = check_message(message, traits.sender_domains, traits.templates)
    if verdict.code not in ("", "Warning"):
        return verdict
    everybody = [*verdict.recipients, *verdict.refused]
    bad = [address for address in verdict.recipients if is_listed(address, traits.bad_recipients)] if traits.bad_recipients else []
    spoiled = everybody[:1] if call.is_spoiled(item) else []
    return split(everybody, [*verdict.refused, *bad, *spoiled]) if bad or spoiled else verdict


def _result(item: int, verdict: Verdict) -> dict[str, Any]:
    addresses = [{"EmailAddress": a, "Accepted": False, "ErrorCode": "InvalidAddress"} for a in verdict.refused]
    return {"Index": item, "ErrorCode": verdict.code, "AddressResults": addresses or None}


def _accepted(messages: list[Fields], item: int, copy: merge.Copy, verdict: Verdict) -> list[Accepted]:
    """The mail of one copy, unless nobody, or not this copy's recipient, gets it."""
    message = merge.filled(messages[copy.place], copy.values)
    recipient = copy.values[merge.ADDRESS] if copy.values else next(iter(verdict.recipients), "")
    if recipient not in verdict.recipients:
        return []
    own_id = message.get("messageid") or ""
    return [Accepted(own_id or None, own_id, recipient, message["subject"], item)]


def _parse(body: bytes) -> Any:
    try:
        return folded(orjson.loads(body))
    except orjson.JSONDecodeError:
        return None


def _refusal(code: str, status: int = 200) -> Answer:
    receipt = secrets.token_hex(8) if code == "InternalError" else None
    return Answer(status, orjson.dumps({"ErrorCode": code, "MessageResults": None, "TransactionReceipt": receipt}), _JSON)


def _spelled(person: dict[str, str]) -> str:
    return f"{person['friendlyname']} <{person['emailaddress']}>" if person.get("friendlyname") else person["emailaddress"]


def _attachment(part: dict[str, str]) -> Attachment:
    padding = part["content"].count("=", -2)
    return Attachment(part["name"], part["contenttype"], len(part["content"]) * 3 // 4 - padding)
