"""Email addresses: one spelling for each, and a clear reason for what cannot be one.

Must never echo an address in an error, and never look anything up. The common ASCII form is decided here by a pattern (email-validator
costs some 30 times as much); everything else goes to email-validator, which also knows international domains.
"""

import re
from typing import Any

from email_validator import EmailNotValidError, validate_email

from mail.errors import InvalidJob
from mail.header_text import read_display_name, refuse_controls
from mail.limits import MAX_ADDRESS, MAX_LOCAL_PART
from mail.message import Address

# Possessive throughout, so no input makes it slow. A label with two hyphens in a row may be punycode, good or bad: not common.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]++"
_LABEL = r"[A-Za-z0-9]++(?:-[A-Za-z0-9]++)*+"
_COMMON = re.compile(rf"({_ATOM}(?:\.{_ATOM})*+)@((?:{_LABEL}\.)++[A-Za-z]{{2,}})")
_COMMON_DOMAIN = 63  # in a domain no longer than one label may be, no label is too long
_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<email>[^<>]*)>")
_QUOTED = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


def read_address(raw: object, path: str) -> Address:
    """An address from `"a@x.com"`, `"Name <a@x.com>"` or `{"email", "name"}`.

    The domain comes out in lower case and as punycode, the local part as it came. Raises InvalidJob: invalid-address,
    header-injection, or invalid-job where it has another type.
    """
    if isinstance(raw, str):
        return _read_text(raw, path)
    if isinstance(raw, dict):
        return _read_object(raw, path)
    raise InvalidJob("invalid-job", f"{path}: must be an address: a string or an object with email and name")


def read_addresses(raw: object, path: str, at_most: int) -> tuple[Address, ...]:
    """A list of addresses, or a single one; null, "" and [] are none. Raises as `read_address` does, and invalid-job for too many."""
    if raw is None or raw == "":
        return ()
    if not isinstance(raw, list):
        return (read_address(raw, path),)
    if len(raw) > at_most:  # before the work of reading them
        raise InvalidJob("invalid-job", f"{path}: must have at most {at_most} addresses")
    return tuple([read_address(one, f"{path}[{index}]") for index, one in enumerate(raw)])


def without_repeats(
    to: tuple[Address, ...], cc: tuple[Address, ...], bcc: tuple[Address, ...]
) -> tuple[tuple[Address, ...], tuple[Address, ...], tuple[Address, ...]]:
    """Each address once, where it is most visible: SendGrid refuses a whole request for one that stands in To and Cc."""
    if len(to) == 1 and not cc and not bcc:
        return to, cc, bcc
    seen: set[str] = set()
    return _unseen(to, seen), _unseen(cc, seen), _unseen(bcc, seen)


def normalize_email(text: str, path: str) -> str:
    """A bare address in its one spelling; raises InvalidJob (invalid-address, header-injection)."""
    return _normalize_common(text) or _normalize_uncommon(text, path)


def _normalize_common(text: str) -> str:
    """The one spelling of an address of the common form, "" for any other text."""
    found = _COMMON.fullmatch(text)
    if not found:
        return ""
    local, domain = found.groups()
    return f"{local}@{domain.lower()}" if len(local) <= MAX_LOCAL_PART and len(domain) <= _COMMON_DOMAIN else ""


def _read_text(text: str, path: str) -> Address:
    if "<" not in text and ">" not in text:
        return Address(normalize_email(text, path))
    refuse_controls(text, path)
    found = _NAMED.fullmatch(text.strip(" "))
    if not found:
        raise InvalidJob("invalid-address", f"{path}: holds more than one address or stray angle brackets")
    email = normalize_email(found["email"], path)
    return Address(email, read_display_name(_unquote(found["name"].strip(" "), email, path), path))


def _read_object(raw: dict[str, Any], path: str) -> Address:
    email, name = raw.get("email"), raw.get("name")
    if type(email) is not str:
        raise InvalidJob("invalid-job", f"{path}.email: {'is missing' if email is None else 'must be a string'}")
    if name is not None and type(name) is not str:
        raise InvalidJob("invalid-job", f"{path}.name: must be a string")
    email = _normalize_common(email) or _normalize_uncommon(email, f"{path}.email")
    return Address(email, read_display_name(name, f"{path}.name") if name else "")


def _unquote(name: str, email: str, path: str) -> str:
    if quoted := _QUOTED.fullmatch(name):
        return _ESCAPED.sub(r"\1", quoted["text"])
    if "@" in name and name.lower() != email.lower():
        raise InvalidJob("invalid-address", f"{path}: holds more than one address, or a name that must be quoted")
    return name


def _unseen(addresses: tuple[Address, ...], seen: set[str]) -> tuple[Address, ...]:
    fresh = []
    for address in addresses:
        key = address.email.lower()
        if key not in seen:
            seen.add(key)
            fresh.append(address)
    return tuple(fresh)


def _normalize_uncommon(text: str, path: str) -> str:
    refuse_controls(text, path)
    if text != text.strip(" "):
        return normalize_email(text.strip(" "), path)
    if problem := _plain_problem(text):
        raise InvalidJob("invalid-address", f"{path}: {problem}")
    try:
        valid = validate_email(text, check_deliverability=False, allow_smtputf8=False, test_environment=True)
    except (EmailNotValidError, ValueError):  # its text shows the address
        raise InvalidJob("invalid-address", f"{path}: is not a valid address") from None
    if not valid.ascii_email or len(valid.ascii_email) > MAX_ADDRESS:
        raise InvalidJob("invalid-address", f"{path}: is longer than {MAX_ADDRESS} characters as punycode")
    return valid.ascii_email


def _plain_problem(text: str) -> str | None:
    """The usual mistakes, each in words that lead to its mending."""
    local, at, domain = text.rpartition("@")
    if not text:
        return "is empty"
    if len(text) > MAX_ADDRESS or len(local) > MAX_LOCAL_PART:
        return f"is too long: at most {MAX_LOCAL_PART} characters before the @ and {MAX_ADDRESS} in all"
    if not at:
        return "has no @"
    if "@" in local or "," in text or ";" in text:
        return "holds more than one address"
    if not local.isascii():
        return "has characters outside ASCII before the @, which most ESPs cannot send to (no SMTPUTF8)"
    if "." not in domain.strip(".") and domain.isascii():
        return "its domain has no dot"
    return None
