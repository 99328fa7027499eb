"""What SendGrid's mail send refuses, field by field, with its own texts.

Every rule is documented (OpenAPI file, "errors" page; 2026-11) or stands in an error body of a public issue. Rules only judge;
they must never change a message. The usual, sound personalization has to be judged in a few microseconds.
"""

import re
from typing import Any

from sandbox.fakes.contract import Call, is_listed
from sandbox.fakes.sendgrid_parts import Errors, check_attachments, check_content, check_keys, is_text_map, listed, type_name

MAX_PERSONALIZATIONS = 1000
MAX_RECIPIENTS = 1000
MAX_SUBSTITUTION_BYTES = 10_000
MAX_CUSTOM_ARGS_BYTES = 10_000
MAX_ADDRESS_LENGTH = 320
MAX_AHEAD_S = 72 * 3600
_ADDRESS = re.compile(
    r"[^\s@<>(),;:\\\"\[\]]+@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+"
).fullmatch
_HEADER_NAME = re.compile(r"[!-9;-~]+").fullmatch
_RESERVED = frozenset(
    [
        "x-sg-id",
        "x-sg-eid",
        "received",
        "dkim-signature",
        "content-type",
        "content-transfer-encoding",
        "to",
        "from",
        "subject",
        "reply-to",
        "cc",
        "bcc",
    ]
)
_MESSAGE_KEYS = frozenset(
    [
        "personalizations",
        "from",
        "reply_to",
        "reply_to_list",
        "subject",
        "content",
        "attachments",
        "template_id",
        "headers",
        "categories",
        "custom_args",
        "send_at",
        "batch_id",
        "asm",
        "ip_pool_name",
        "mail_settings",
        "tracking_settings",
        "sections",
    ]
)
_ONE_KEYS = frozenset(["to", "cc", "bcc", "from", "subject", "headers", "substitutions", "dynamic_template_data", "custom_args", "send_at"])
_ADDRESS_KEYS = frozenset(("email", "name"))


def substituted(text: str, one: dict[str, Any], message: dict[str, Any]) -> str:
    """A text with a personalization's substitutions put in, literally; a value may name a section, which may hold tags again."""
    substitutions = one.get("substitutions")
    if not substitutions:
        return text
    text = _replaced(text, substitutions)
    sections = message.get("sections")
    return _replaced(_replaced(text, sections), substitutions) if sections else text


def check_message(message: Any, call: Call, errors: Errors, now: float) -> None:
    """Judge a whole mail-send body; what is wrong is in `errors` afterwards."""
    if not isinstance(message, dict):
        errors.add(None, f"Invalid type. Expected: object, given: {type_name(message)}.")
        return
    check_keys(message, _MESSAGE_KEYS, "", errors)
    _check_from(message, call, errors)
    _check_envelope(message, errors, now)
    has_template = _check_template(message, call, errors)
    check_content(message, has_template, errors)
    check_attachments(message, errors)
    ones: Any = message.get("personalizations")
    if _check_count(ones, errors):
        root_args = message.get("custom_args") or {}
        for place, one in enumerate(ones):
            _check_one(one, f"personalizations.{place}", message, root_args, errors, now)
            if not errors.found:
                _check_recipients_known(one, place, call, errors)


def _check_count(ones: Any, errors: Errors) -> bool:
    if not isinstance(ones, list) or not ones:
        errors.add("personalizations", "You must have at least one personalization.", "personalizations")
        return False
    if len(ones) > MAX_PERSONALIZATIONS:
        errors.add(
            "personalizations",
            f"The personalization block is limited to 1000 personalizations per API request. You have provided {len(ones)} "
            "personalizations. Please consider splitting this into multiple requests and resending your request.",
            "personalizations",
        )
        return False
    total = sum(len(one.get(key) or ()) for one in ones if isinstance(one, dict) for key in ("to", "cc", "bcc"))
    if total > MAX_RECIPIENTS:
        errors.add("personalizations", "There is a limit of 1000 total recipients (to + cc + bcc) per request.", "personalizations")
        return False
    return True


def _check_one(one: Any, field: str, message: dict[str, Any], root_args: dict[str, Any], errors: Errors, now: float) -> None:
    if not isinstance(one, dict):
        errors.add(field, f"Invalid type. Expected: object, given: {type_name(one)}.")
        return
    check_keys(one, _ONE_KEYS, field + ".", errors)
    _check_addresses(one, field, errors)
    _check_subject(one.get("subject"), "subject" in one, f"{field}.subject", errors)
    if "subject" not in one and not message.get("subject") and not message.get("template_id"):
        errors.add("subject", "The subject is required. You can get around this requirement if you use a template with a subject defined.")
    if "substitutions" in one:
        _check_substitutions(one["substitutions"], field, message, errors)
    if "custom_args" in one or root_args:
        _check_custom_args(one.get("custom_args", {}), root_args, f"{field}.custom_args", errors)
    if "headers" in one:
        _check_headers(one["headers"], f"{field}.headers", errors)
    if "send_at" in one:
        _check_send_at(one["send_at"], f"{field}.send_at", errors, now)
    if "from" in one and _is_address(one["from"], f"{field}.from", errors):
        _check_same_domain(one["from"], message.get("from"), f"{field}.from", errors)
    if "dynamic_template_data" in one and not isinstance(one["dynamic_template_data"], dict):
        errors.add(
            f"{field}.dynamic_template_data", "Invalid type. Expected: object, given: " + type_name(one["dynamic_template_data"]) + "."
        )


def _check_addresses(one: dict[str, Any], field: str, errors: Errors) -> None:
    if not one.get("to"):
        text = (
            "The to array is required for all personalization objects, and must have at least one email object with a valid email address."
        )
        errors.add(f"{field}.to", text, "personalizations.to")
        return
    seen: set[str] = set()
    for key in ("to", "cc", "bcc"):
        for place, address in enumerate(listed(one.get(key), f"{field}.{key}", errors)):
            if not _is_address(address, f"{field}.{key}.{place}", errors):
                continue
            lowered = address["email"].lower()
            if lowered in seen:
                _add_duplicate(address["email"], field, key, errors)
                return
            seen.add(lowered)


def _add_duplicate(address: str, field: str, key: str, errors: Errors) -> None:
    errors.add(
        field,
        "Each email address in the personalization block should be unique between to, cc, and bcc. "
        f"We found the first duplicate instance of [{address}] in the {field}.{key} field.",
        "recipient-errors",
    )


def _is_address(address: Any, field: str, errors: Errors) -> bool:
    """Whether it is {"email", "name"?} with a sound address; says what is wrong where not."""
    if not isinstance(address, dict):
        errors.add(field, f"Invalid type. Expected: object, given: {type_name(address)}.", "personalizations.to")
        return False
    check_keys(address, _ADDRESS_KEYS, field + ".", errors)
    email = address.get("email")
    if not isinstance(email, str) or not email.isascii() or not _ADDRESS(email):
        errors.add(f"{field}.email", "Does not contain a valid address.", "personalizations.to")
        return False
    if len(email) > MAX_ADDRESS_LENGTH:
        errors.add(f"{field}.email", "The email exceeds the maximum total length of 320 characters", "personalizations.to")
        return False
    if not isinstance(address.get("name", ""), str):
        errors.add(f"{field}.name", f"Invalid type. Expected: string, given: {type_name(address['name'])}.", "personalizations.to")
        return False
    return True


def _check_recipients_known(one: dict[str, Any], place: int, call: Call, errors: Errors) -> None:
    """Not a rule of SendGrid's: the addresses (and places) that this fake was told to find bad."""
    bad = call.traits.bad_recipients
    is_bad = bool(bad) and any(is_listed(address["email"], bad) for key in ("to", "cc", "bcc") for address in one.get(key) or ())
    if is_bad or call.is_spoiled(place):
        errors.add(f"personalizations.{place}.to.0.email", "Does not contain a valid address.", "personalizations.to")


def _check_substitutions(substitutions: Any, field: str, message: dict[str, Any], errors: Errors) -> None:
    field = f"{field}.substitutions"
    if str(message.get("template_id", "")).startswith("d-"):
        errors.add(field, "Substitutions may not be used with dynamic templating", "personalizations.substitutions")
    elif not is_text_map(substitutions):
        text = "The substitution values must be an object of key/value pairs, where the values are all strings."
        errors.add(field, text, "personalizations.substitutions")
    elif _size_bytes(substitutions) > MAX_SUBSTITUTION_BYTES:
        errors.add(field, "Substitutions are limited to 10000 bytes per personalization.", "personalizations.substitutions")


def _check_custom_args(args: Any, root_args: Any, field: str, errors: Errors) -> None:
    if not is_text_map(args) or not is_text_map(root_args):
        errors.add(field, "All values of custom arguments object must be strings", "personalizations.custom_args")
    elif not args and not root_args:
        errors.add(field, "custom_args cannot be empty.", "personalizations.custom_args")
    elif _size_bytes({**root_args, **args} if root_args else args) > MAX_CUSTOM_ARGS_BYTES:
        text = "The combined size of both global and personalization custom arguments may not exceed 10,000 bytes per personalization."
        errors.add(field, text, "personalizations.custom_args")


def _check_headers(headers: Any, field: str, errors: Errors) -> None:
    if not is_text_map(headers):
        errors.add(field, "All values of the headers object must be strings.", "headers")
        return
    names = [name.lower() for name in headers]
    if len(set(names)) < len(names):
        errors.add(field, "The headers cannot contain duplicate keys.", "headers")
    if not all(map(_HEADER_NAME, names)):
        errors.add(field, "Header keys cannot contain non-ASCII characters or empty spaces.", "headers")
    if not _RESERVED.isdisjoint(names):
        errors.add(field, "Header cannot be one of the reserved keys.", "headers")
    if any("\r" in value or "\n" in value for value in headers.values()):
        errors.add(field, "The header values cannot contain CRLF characters.", "headers")


def _check_send_at(send_at: Any, field: str, errors: Errors, now: float) -> None:
    if type(send_at) is not int:
        errors.add(field, "The send_at parameter is expecting a Unix timestamp as an integer.", "send_at")
    elif send_at > now + MAX_AHEAD_S:
        errors.add(field, "Scheduling more than 72 hours in advance is forbidden.", "send_at")


def _check_from(message: dict[str, Any], call: Call, errors: Errors) -> None:
    sender = message.get("from")
    if not sender:
        text = 'The from object must be provided for every email send. It is an object that requires the email parameter, but may also contain a name parameter. e.g. {"email": "example@example.com"} or {"email": "example@example.com", "name": "Example Recipient"}.'  # noqa: E501
        errors.add("from.email", text, "from")
    elif _is_address(sender, "from", errors):
        domains = call.traits.sender_domains
        if domains and sender["email"].rpartition("@")[2].lower() not in domains:
            errors.sender_refused = True
            errors.add(
                "from", "The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved."
            )


def _check_same_domain(sender: dict[str, str], root: Any, field: str, errors: Errors) -> None:
    root_email = root.get("email") if isinstance(root, dict) else None
    if isinstance(root_email, str) and sender["email"].rpartition("@")[2].lower() != root_email.rpartition("@")[2].lower():
        errors.add(field, "The personalization from address must have the same domain as the from address.", "personalizations.from")


def _check_envelope(message: dict[str, Any], errors: Errors, now: float) -> None:
    _check_subject(message.get("subject"), "subject" in message, "subject", errors)
    for key in ("reply_to", "reply_to_list"):
        replies = message.get(key) or []
        for reply in replies if isinstance(replies, list) else [replies]:
            _is_address(reply, key, errors)
    if message.get("reply_to") and message.get("reply_to_list"):
        errors.add("reply_to_list", "The reply_to and reply_to_list parameters cannot be used together.")
    if "headers" in message:
        _check_headers(message["headers"], "headers", errors)
    if "custom_args" in message:
        _check_custom_args(message["custom_args"], {}, "custom_args", errors)
    if "send_at" in message:
        _check_send_at(message["send_at"], "send_at", errors, now)
    if "sections" in message and not is_text_map(message["sections"]):
        errors.add("sections", "The section values must be strings.", "sections")
    for key in ("mail_settings", "tracking_settings", "asm"):
        _check_settings(message.get(key, {}), key, errors)
    _check_categories(message.get("categories", []), errors)


def _check_settings(settings: Any, field: str, errors: Errors) -> None:
    if not isinstance(settings, dict):
        errors.add(field, f"Invalid type. Expected: object, given: {type_name(settings)}.")
        return
    sandbox = settings.get("sandbox_mode", {})
    if not isinstance(sandbox, dict) or not isinstance(sandbox.get("enable", False), bool):
        errors.add(f"{field}.sandbox_mode.enable", "The sandbox_mode enable parameter must be a boolean.", "mail_settings.sandbox_mode")


def _check_subject(subject: Any, is_given: bool, field: str, errors: Errors) -> None:
    if is_given and (not isinstance(subject, str) or not subject):
        errors.add(field, "The subject of your email must be a string at least one character in length.", "subject")


def _check_categories(categories: Any, errors: Errors) -> None:
    if not isinstance(categories, list) or not all(isinstance(category, str) for category in categories):
        errors.add("categories", "Categories must be an array of strings.", "categories")
        return
    if len(categories) > 10:
        text = f"There is a limit of 10 categories for each email that is sent. You provided {len(categories)} categories."
        errors.add("categories", text, "categories")
    for category in categories:
        if len(category) > 255:
            errors.add("categories", f"Each category must not be longer than 255 characters. {category} exceeds this limit", "categories")
        if not category.isascii():
            errors.add("categories", "Categories can not contain non-ASCII characters.", "categories")
    if len(set(categories)) < len(categories):
        errors.add("categories", "The categories must be a unique list, and you have included one more than once.", "categories")


def _check_template(message: dict[str, Any], call: Call, errors: Errors) -> bool:
    if "template_id" not in message:
        return False
    template_id, known = message["template_id"], call.traits.templates
    if not isinstance(template_id, str):
        errors.add("template_id", f"The template ID must be a string, you provided {template_id}.", "template_id")
    elif not template_id.startswith("d-") or (known and template_id not in known):
        text = f"The template_id must be a valid GUID, you provided '{template_id}'."
        errors.add("template_id", text, "template_id")
    return True


def _replaced(text: str, values: dict[str, str]) -> str:
    for tag, value in values.items():
        text = text.replace(tag, value)
    return text


def _size_bytes(values: dict[str, str]) -> int:
    return len("".join([*values, *values.values()]).encode())
