"""A stored template as the renderer needs it."""

import msgspec

MARKETING_TYPES = frozenset({"event-announcement", "special-offer", "newsletter"})
JOB_TYPES = (
    "booking-confirmation",
    "booking-cancellation",
    "booking-reminder",
    "payment-confirmation",
    "payment-failed",
    "refund-confirmation",
    "welcome-email",
    "password-reset",
    "email-verification",
    "event-announcement",
    "special-offer",
    "newsletter",
    "maintenance-notice",
    "security-alert",
    "system-update",
)


class Template(msgspec.Struct, frozen=True):
    """`version` changes with every edit; compiled templates are kept per (name, version). `rendered_version` is the one that rendered
    an email last ("" = none ever did).

    `type` is one of JOB_TYPES, or "transactional" or "marketing". `variables` are the declared names that data must have.
    """

    name: str
    version: str
    type: str
    subject: str
    html: str
    text: str
    variables: tuple[str, ...] = ()
    is_active: bool = True
    rendered_version: str = ""


def is_marketing(job_type: str, template_type: str = "") -> bool:
    """A job's class is that of its type where that is one of the 15, else of its template's type, else transactional."""
    decisive = job_type if job_type in JOB_TYPES else template_type
    return decisive in MARKETING_TYPES or decisive == "marketing"
