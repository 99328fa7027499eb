"""The exceptions that this product raises on purpose; each is named after what the catcher must do.

Anything else that is raised is a bug: it ends the process with a traceback, and the supervisor starts another.
"""

from dataclasses import dataclass


class InvalidJob(Exception):
    """One email of a record can never be sent: dead-letter it, go on with its neighbours.

    `reason` is one of the dead-letter reasons of the wire format ("invalid-job", "not-json", ...);
    `error` names the field and the fix. `job_id`, `tenant` and `index` say which email it was, as far as that could be read.
    """

    def __init__(self, reason: str, error: str, job_id: str | None = None, tenant: int = 0, index: int | None = None):
        super().__init__(reason, error)
        self.reason = reason
        self.error = error
        self.job_id = job_id
        self.tenant = tenant
        self.index = index


class RenderError(Exception):
    """A template could not become a message with this data: dead-letter the job.

    `reason` is "unknown-template", "inactive-template", "missing-variables", "render-error", "invalid-address" or
    "header-injection"; `error` names the template and the variable or line.
    """

    def __init__(self, reason: str, error: str):
        super().__init__(reason, error)
        self.reason = reason
        self.error = error


class StoreUnavailable(Exception):
    """Postgres does not answer: keep what is in hand, wait, try the same thing again; never exit with answers in hand."""


class Fenced(Exception):
    """A newer incarnation owns this slot: stop at once, send nothing more."""


class Expelled(Exception):
    """Kafka takes this consumer for a former one of its instance id: begin anew. Who owns a slot is not for Kafka to say (`Fenced`)."""


@dataclass(frozen=True)
class SettingProblem:
    """One wrong setting: its name and what to do about it."""

    name: str
    fix: str


class BadSettings(Exception):
    """The settings cannot be used; `problems` holds every one of them, so that all are mended at once."""

    def __init__(self, problems: list[SettingProblem]):
        super().__init__("; ".join(f"{p.name}: {p.fix}" for p in problems))
        self.problems = problems


class BadCallback(Exception):
    """A webhook body is forged, unsigned or unreadable: apply nothing, dead-letter it as `bad-callback`."""
