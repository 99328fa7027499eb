"""Addresses with which people try out what an ESP reports: what happens to a mail to one of them is certain.

Sources (read 2026-11): the SES developer guide on its mailbox simulator, Postmark's pages on testing, SparkPost's on its sink server
and its bouncy-sink.
"""

from sandbox.fakes.callbacks import Kind

_ANYBODY = ""
_SINK = ".sink.sparkpostmail.com"
_HOSTS: dict[str, dict[str, dict[str, tuple[Kind, ...]]]] = {
    "ses": {
        "simulator.amazonses.com": {
            "success": ("delivered",),
            "bounce": ("hard_bounce",),
            "complaint": ("delivered", "complaint"),
            "suppressionlist": ("dropped",),
            "ooto": ("delivered",),
        }
    },
    "postmark": {
        "bounce-testing.postmarkapp.com": {
            "hardbounce": ("hard_bounce",),
            "softbounce": ("soft_bounce",),
            "unsubscribe": ("delivered", "unsubscribe"),
        },
        "blackhole.postmarkapp.com": {"test": ("delivered",)},
    },
    "sparkpost": {
        "accept.bouncy-sink.trymsys.net": {_ANYBODY: ("delivered",)},
        "oob.bouncy-sink.trymsys.net": {_ANYBODY: ("delivered", "late_bounce")},
        "fbl.bouncy-sink.trymsys.net": {_ANYBODY: ("delivered", "complaint")},
        "openclick.bouncy-sink.trymsys.net": {_ANYBODY: ("delivered", "open", "click")},
    },
}


def certain_fate(esp: str, address: str) -> tuple[Kind, ...]:
    """What happens one after the other, none where the address is an ordinary one. A label (success+7@…) changes nothing."""
    local, _, host = address.lower().rpartition("@")
    if esp == "sparkpost" and host.endswith(_SINK):
        return ("delivered",)
    people = _HOSTS.get(esp, {}).get(host, {})
    return people.get(local.partition("+")[0]) or people.get(_ANYBODY) or ()
