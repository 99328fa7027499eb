"""Can the tests of the adapters fail? Take one check out of each, and see which test turns red.

    python -m tests.esp.adapter_mutations [NAME ...]

Each mutation is one textual patch of a copy of the tree, in which the test file is run that is there for it. It must never touch the
tree itself. Exit status 0 only where every mutation is red.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sandbox.children import PROJECT
from tests.chaos.mutations import BROKE_DOWN, SKIPPED, Patch, apply, test_there

TABLES = "tests/esp/test_error_tables.py"


class Mutation(NamedTuple):
    """What is broken, and the file of tests that has to notice."""

    patch: Patch
    test: str


def _broken(file: str, before: str, after: str, test: str) -> Mutation:
    return Mutation(Patch(f"esp/{file}.py", before, after), test if "/" in test else f"tests/esp/test_{test}.py")


MUTATIONS: dict[str, Mutation] = {
    "sendgrid, a status: 429 is no rate": _broken("sendgrid", "if status == 429:", "if False:", TABLES),
    "sendgrid, a result: nobody is named": _broken("sendgrid", "return [culprits.get(index, neighbour)", "return [neighbour", TABLES),
    "sendgrid, a limit: 1,001 mails": _broken(
        "sendgrid",
        "messages_per_request=1000,  # personalizations\n    recipients_per_request=1000,",
        "messages_per_request=1001,\n    recipients_per_request=1001,",
        "sendgrid",
    ),
    "sendgrid, a name: read as addresses": _broken("personalizations", "if not _SPECIALS.search(address.name):", "if True:", "sendgrid"),
    "sendgrid, a label: any category": _broken("personalizations", " and tag.isascii()", "", "sendgrid"),
    "sendgrid, a type: with parameters": _broken("sendgrid", "if any(_AFTER_A_TYPE", "if False and any(_AFTER_A_TYPE", "sendgrid"),
    "sendgrid, a signature: wrong is right": _broken(
        "sendgrid", """raise BadCallback("the callback's signature is wrong") from None""", "return", "sendgrid_events"
    ),
    "postmark, a status: any 5xx is a no": _broken("postmark", "is_no = 400 <= reply.status < 500 or (", "is_no = True or (", TABLES),
    "postmark, a result: a code is a yes": _broken("postmark", "if code == 0 and (message_id", "if (message_id", TABLES),
    "postmark, a result: read by place where the count is wrong": _broken(
        "postmark", "not isinstance(answer, list) or len(answer) != len(request.messages)", "not isinstance(answer, list)", "postmark"
    ),
    "postmark, a result: without its recipient": _broken(
        "postmark", "if _LEFT_OUT in words", "if False and _LEFT_OUT in words", "postmark"
    ),
    "postmark, a limit: 501 mails": _broken("postmark", "messages_per_request=500,", "messages_per_request=501,", "postmark"),
    "socketlabs, a status: 408 is a no": _broken("socketlabs", " and status != 408", "", TABLES),
    "socketlabs, a result: half a list is enough": _broken("socketlabs", " if is_readable else doubts", "", "socketlabs"),
    "socketlabs, a limit: 11 mails": _broken("socketlabs", "messages_per_request=10,", "messages_per_request=11,", "socketlabs"),
    "sparkpost, a status: 420 is nothing": _broken("sparkpost", "(420, 429), _THROTTLED", "(429,), _THROTTLED", TABLES),
    "sparkpost, a result: some are all": _broken("sparkpost", "if accepted == due:", "if accepted:", "sparkpost"),
    "sparkpost, a limit: 2,001 mails": _broken(
        "sparkpost",
        "    messages_per_request=2000,  # 2,000 to 10,000 are advised, the latter with a time-out of 300 s\n    recipients_per_request=2000,",
        "    messages_per_request=2001,\n    recipients_per_request=2001,",
        "sparkpost",
    ),
    "ses, a status: a 5xx is a no": _broken("ses", "if not 400 <= reply.status < 500:", "if not 400 <= reply.status:", TABLES),
    "ses, a result: read by place where the count is wrong": _broken("ses", " or len(results) != len(request.messages)", "", "contract"),
    "ses, a limit: 51 mails": _broken(
        "ses",
        "    messages_per_request=50,\n    recipients_per_request=50,",
        "    messages_per_request=51,\n    recipients_per_request=51,",
        "ses",
    ),
    "ses, a header: 998 characters": _broken("ses_content", "_HEADER_LINE = 15, 126, 996", "_HEADER_LINE = 15, 126, 998", "ses"),
    "ses, a callback: from any host": _broken("sns", 'if (parts.hostname or "").lower() != self._host:', "if False:", "sns"),
    "ses, a callback: of any age": _broken("sns", "    refuse_replay(signed_at", "    (lambda *_: None)(signed_at", "sns"),
    "smtp, a status: any 250 is a yes": _broken("smtp", 'if stage == "end" and reply.status == 250:', "if reply.status == 250:", "smtp"),
    "smtp, a result: the first recipient may be refused": _broken("smtp_client", "is_first=place == 0", "is_first=False", "smtp_lines"),
    "smtp, a limit: SIZE is not asked": _broken("smtp_client", "if most.isdigit() and 0 <", "if False and 0 <", "smtp_lines"),
    "smtp, a connection: 51 mails": _broken("smtp_lines", "_MOST_MAILS = 50", "_MOST_MAILS = 51", "smtp_lines"),
    "smtp, a connection: given up with its mail": _broken(
        "smtp_lines", "reply.status != CLOSING_DOWN else None", "True else None", "smtp_talk"
    ),
    "all, a doubt: what has left was not taken": _broken(
        "base", "Verdict.UNKNOWN if no_reply.has_left else Verdict.UNAVAILABLE", "Verdict.UNAVAILABLE", "contract"
    ),
    "all, a wait: as long as they ask": _broken("base", "return min(max(wait_s, 0.0), LONGEST_WAIT_S)", "return wait_s", "base"),
    "all, a request: leaves twice": _broken("call", "if self.has_left:\n                raise", "if False:\n                raise", "call"),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.esp.adapter_mutations", description="Break each adapter and look.")
    parser.add_argument("names", nargs="*", help="which mutations; default: all")
    names = parser.parse_args(argv).names or list(MUTATIONS)
    with tempfile.TemporaryDirectory(prefix="adapters-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(PROJECT, tree, ignore=SKIPPED)
        green = [name for name in names if not is_noticed(name, tree)]
    print(f"\n{len(names) - len(green)} of {len(names)} are noticed" + "".join(f"\n  NOT: {name}" for name in green))
    return 1 if green else 0


def is_noticed(name: str, tree: Path) -> bool:
    """Break this copy, run the test, mend the copy; prints the test that turned red."""
    mutation = MUTATIONS[name]
    path = tree / mutation.patch.file
    sound = path.read_text()
    apply(tree, mutation.patch)
    red = test_there(tree, mutation.test)
    path.write_text(sound)
    print(f"  {name:<60} {', '.join(red) or 'green'}", flush=True)
    return bool(red) and BROKE_DOWN not in red


if __name__ == "__main__":
    sys.exit(main())
