"""What the product tells its operators: log lines, metrics, health and systemd notifications.

Every folder may import this one; it imports none of ours. It must never carry an email address or a secret to the outside.
"""

from telemetry import log

__all__ = ["log"]
