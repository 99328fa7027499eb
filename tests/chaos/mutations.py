"""Can the chaos test fail? Break the product on purpose, one safeguard at a time, and see which checks turn red.

    python -m tests.chaos.mutations [NAME ...]

Each mutation is a textual patch of a copy of the tree, in which one short run is made, or the one test that is there for what
killing meets by chance only. It must never touch the tree itself. Exit status 0 only where the whole product is green and every mutation is red.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sandbox import fakes
from sandbox.children import PROJECT
from sandbox.world import World
from tests.chaos.run import ChaosRun, Quota
from tests.conftest import postgres_programs

QUOTA = Quota(kills=40, at_each_point=3)
PATIENCE_S = 25.0
RUN_LIMIT_S = 420.0
BROKE_DOWN = "broke down"
SKIPPED = shutil.ignore_patterns(".git", ".venv", ".world", "__pycache__", ".*_cache", ".hypothesis", "*.part")


class Patch(NamedTuple):
    """In `file`, `before` (which must be there once) becomes `after`."""

    file: str
    before: str
    after: str


SETTLE = "conclusion = database.run(lambda cursor: _settle(cursor, claim, evidence, events_topic))"
COMMIT = "        self._tools.source.commit(records)\n"
EARLY_COMMIT = "self._tools.source.commit(batch.records)\n        "
MARK = "            self._flight_log.mark_leaving(by_request[id(request)].handle)\n"
ANSWER = "            self._flight_log.answer(departure.handle, outcomes)\n"
HOLD = "        ledger.hold_slot(cursor, self._slot, ids)\n"

# Not here, because short runs meet them by chance only: a keeper that settles slots in use (tests/workers/flight/test_missing_slots.py)
# and a fence that does not look at the incarnation (tests/workers/steps/test_bookkeeping.py).
MUTATIONS: dict[str, tuple[Patch, ...]] = {
    "nothing": (),
    "settlement removed": (Patch("workers/flight/settlement.py", SETTLE, "conclusion = Conclusion([], [], [])"),),
    "prepared is written after the opening transaction": (Patch("workers/steps/dispatch.py", "return self.prepare(seated)", "return []"),),
    "leaving is marked after the send": (
        Patch("workers/steps/sending.py", MARK, ""),
        Patch("workers/steps/sending.py", ANSWER, "            self._flight_log.mark_leaving(departure.handle)\n" + ANSWER),
    ),
    "what was leaving is sent again": (
        Patch("workers/flight/settlement.py", "elif flight.stage is Stage.LEAVING or (", "elif False or ("),
    ),
    "answers in the log are not believed": (
        Patch("workers/flight/settlement.py", "elif outcome and outcome.verdict is Verdict.ACCEPTED:", "elif False and outcome:"),
    ),
    "offsets are committed before the record": (
        Patch("workers/delivery.py", COMMIT, ""),
        Patch("workers/delivery.py", 'self._timed("record"', EARLY_COMMIT + 'self._timed("record"'),
    ),
    "offsets are committed before the exchange": (
        Patch("workers/delivery.py", COMMIT, ""),
        Patch("workers/delivery.py", 'self._timed("exchange"', EARLY_COMMIT + 'self._timed("exchange"'),
    ),
    "the fence lets go before the commit": (Patch("workers/steps/bookkeeping.py", HOLD, HOLD + "        cursor.connection.commit()\n"),),
}

CLAIM = "    ON CONFLICT (key) DO NOTHING\n    RETURNING id\n), made AS ("
# What a kill meets by chance only, with the test that meets it always.
AIMED: dict[str, tuple[tuple[Patch, ...], str]] = {
    "the claim: the second one takes the id, too": (
        (Patch("db/sql/ledger.sql", CLAIM, CLAIM.replace("DO NOTHING", "DO UPDATE SET id = excluded.id")),),
        "tests/chaos/test_same_id.py",
    ),
    "the claim of a row: no compare and set": (
        (
            Patch(
                "db/sql/ledger.sql",
                "AND j.attempt_id IS NOT DISTINCT FROM i.expected AND j.status IN ('pending', 'scheduled', 'retrying') AND j.cancel_asked_at IS NULL\nRETURNING j.id\n\n-- name: insert_attempts",
                "\nRETURNING j.id\n\n-- name: insert_attempts",
            ),
        ),
        "tests/workers/steps/test_bookkeeping.py",
    ),
    "the lease check: not asked before a request leaves": (
        (Patch("workers/steps/sending.py", "if not self._may_send():", "if False and not self._may_send():"),),
        "tests/workers/test_delivery.py",
    ),
    "the lease check: a new lease is as good as the old one": (
        (
            Patch(
                "workers/supervising/shared.py",
                "return self._lease.is_held() and self._lease.term == self._term",
                "return self._lease.is_held()",
            ),
        ),
        "tests/workers/test_delivery.py",
    ),
    "the watermark: any event ever applied will do": (
        (
            Patch(
                "workers/keeping/doubt_rules.py",
                "return evidence.mark is not None and evidence.mark.at >= doubted.since + evidence.margin",
                "return evidence.mark is not None",
            ),
        ),
        "tests/workers/keeping/test_doubt.py",
    ),
    "events: the latest status wins, whatever its rank": (
        (
            Patch(
                "workers/feedback/event_rules.py",
                "return other if one is None or STATUS_RANK[other] > STATUS_RANK[one] else one",
                "return other",
            ),
            Patch(
                "workers/feedback/event_rules.py",
                'return max(arrived, key=lambda status: STATUS_RANK[status or ""]) or job.status',
                "return next((status for status in reversed([*arrived]) if status), job.status)",
            ),
        ),
        "tests/workers/feedback/test_webhook_events.py",
    ),
    "events: any account may speak of any attempt": (
        (
            Patch(
                "db/sql/events.sql",
                "\n    AND a.provider = i.provider AND a.account_tenant = i.account_tenant\nORDER BY i.occurred_at, i.id",
                "\nORDER BY i.occurred_at, i.id",
            ),
        ),
        "tests/workers/feedback/test_webhook_joining.py",
    ),
    "events: a repeated one counts again": (
        (
            Patch(
                "db/sql/events.sql",
                "ON CONFLICT (occurred_at, id) DO NOTHING",
                "ON CONFLICT (occurred_at, id) DO UPDATE SET event_type = excluded.event_type",
            ),
        ),
        "tests/workers/feedback/test_webhook_events.py",
    ),
    "events: what cannot be verified now is committed and not kept": (
        (Patch("workers/feedback/event_books.py", "        postponed.put(cursor, [row_of(record) for record in bag.postponed])\n", ""),),
        "tests/workers/feedback/test_webhook_postponed.py",
    ),
    "doubts: what nobody could verify is no reason to wait": (
        (Patch("db/watermarks.py", "    unread = postponed.find_unread(cursor)\n", "    unread: dict[str, datetime] = {}\n"),),
        "tests/workers/keeping/test_doubt.py",
    ),
    "doubts: a partition that has said nothing yet does not count": (
        (Patch("db/sql/events.sql", "GROUP BY p.topic HAVING bool_and(p.applied_until IS NOT NULL)", "GROUP BY p.topic"),),
        "tests/workers/keeping/test_doubt.py",
    ),
    "events: the end that was seen need not be reached": (
        (Patch("workers/feedback/progress.py", "position is None or position < sight.end", "position is None"),),
        "tests/workers/feedback/test_progress.py",
    ),
    "events: the record of a send binds nothing that came before": (
        (Patch("workers/steps/bookkeeping.py", "            unmatched.bind(\n", "            (lambda *_: None)(\n"),),
        "tests/workers/feedback/test_webhook_joining.py",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutations", description="Break the product on purpose and look.")
    parser.add_argument("names", nargs="*", help="which mutations; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", type=Path, help="(for itself) make one run of this tree in this folder, and print it as JSON")
    arguments = parser.parse_args(argv)
    if arguments.here:
        print(json.dumps(run_here(arguments.here, arguments.seed)))
        return 0
    names = arguments.names or [*MUTATIONS, *AIMED]
    with tempfile.TemporaryDirectory(prefix="chaos-original-") as folder:
        original = Path(folder) / "tree"  # one state of the tree for all, whatever is edited meanwhile
        shutil.copytree(PROJECT, original, ignore=SKIPPED)
        found = {name: try_mutation(name, original, arguments.seed) for name in names}
    wrong = [name for name, red in found.items() if BROKE_DOWN in red or bool(red) != (name != "nothing")]
    print(f"\n{len(found) - len(wrong)} of {len(found)} as they should be" + "".join(f"\n  NOT: {name}" for name in wrong))
    return 1 if wrong else 0


def try_mutation(name: str, original: Path, seed: int) -> dict[str, int]:
    """One run of a mutated copy; prints and returns how much each red check found."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-mutation-") as folder:
        tree, world = Path(folder) / "tree", Path(folder) / "world"
        Path(folder).chmod(0o711)
        shutil.copytree(original, tree)
        for patch in patches_of(name):
            apply(tree, patch)
        red = test_there(tree, AIMED[name][1]) if name in AIMED else run_there(tree, world, seed)
    cells = ", ".join(f"{check} {count}" for check, count in red.items()) or "green"
    print(f"  {name:<52} {time.monotonic() - began_s:>4.0f} s  {cells}", flush=True)
    return red


def apply(tree: Path, patch: Patch) -> None:
    """Patch one file; raises ValueError where the text is not there exactly once."""
    path = tree / patch.file
    text = path.read_text()
    if text.count(patch.before) != 1:
        raise ValueError(f"{patch.file} has {text.count(patch.before)} times: {patch.before.strip()}")
    path.write_text(text.replace(patch.before, patch.after))


def run_there(tree: Path, world: Path, seed: int) -> dict[str, int]:
    """The red checks of one run in another tree. A run that breaks down has proved nothing, and is told apart."""
    command = [sys.executable, "-m", "tests.chaos.mutations", "--seed", str(seed), "--here", str(world)]
    try:
        ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {BROKE_DOWN: 1}
    if ended.returncode != 0:
        print("\n".join(ended.stderr.splitlines()[-12:])[-1500:], file=sys.stderr)
        return {BROKE_DOWN: 1}
    red: dict[str, int] = json.loads(ended.stdout.splitlines()[-1])
    return red


def test_there(tree: Path, test: str) -> dict[str, int]:
    """The tests of one file that failed in another tree."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", test]
    ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    if ended.returncode == 0:
        return {}
    failed = [line.split()[1].rpartition("::")[2] for line in ended.stdout.splitlines() if line.startswith("FAILED ")]
    return dict.fromkeys(failed, 1) if ended.returncode == 1 and failed else {BROKE_DOWN: 1}


def patches_of(name: str) -> tuple[Patch, ...]:
    return AIMED[name][0] if name in AIMED else MUTATIONS[name]


def run_here(folder: Path, seed: int) -> dict[str, int]:
    """One short run of this very tree: its red checks, and how many findings each has."""
    options = {"seed": seed} | {name: {"latency_ms": 40} for name in fakes.names()}
    with World(folder, kafka="apache", esp_options=options, postgres_programs=postgres_programs()) as world:
        result = ChaosRun(world, seed, QUOTA, patience_s=PATIENCE_S).run()
    sizes = {check: len(found) for check, found in result.verdict.findings.items()}
    sizes |= {"errors": len(result.errors), "too few kills": len(result.short), "last net": result.woken, "exit code": result.exit_code}
    return {check: sizes[check] for check in result.red}


if __name__ == "__main__":
    sys.exit(main())
