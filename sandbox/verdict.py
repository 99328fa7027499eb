"""The verdict on a run: what was asked for, compared with what the fakes took. Reads files only, never the database.

    python -m sandbox.verdict FOLDER

FOLDER/wanted.jsonl is the producer's list, FOLDER/ledger/*.jsonl the fakes' truth, FOLDER/database.json what the database said at
the end. Exit status 0 only where nothing was lost, nothing doubled, and the database agrees.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Verdict(NamedTuple):
    """`sent` by ESP, `reported` (what the ESPs told of it so far) by kind of event; the lists hold recipients. `disagreements` are
    sentences about the database."""

    wanted: int
    sent: dict[str, int]
    wanted_dead: dict[str, int]
    dead: dict[str, int]
    reported: dict[str, int]
    lost: list[str]
    doubled: list[str]
    unexpected: list[str]
    disagreements: list[str]

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.unexpected or self.disagreements)


def judge(folder: Path) -> Verdict:
    """Compare the files of one run."""
    wanted = list(_lines(folder / "wanted.jsonl"))
    ledger = {path.stem: [line["recipient"] for line in _lines(path)] for path in sorted((folder / "ledger").glob("*.jsonl"))}
    taken = Counter(recipient for recipients in ledger.values() for recipient in recipients)
    asked = {line["recipient"] for line in wanted if not line["reason"]}
    database = json.loads((folder / "database.json").read_text())
    wanted_dead = dict(Counter(line["reason"] for line in wanted if line["reason"]))
    return Verdict(
        wanted=len(asked),
        sent={esp: len(recipients) for esp, recipients in ledger.items()},
        wanted_dead=wanted_dead,
        dead=database["dead_letters"],
        reported=database["reported"],
        lost=sorted(asked - taken.keys() - set(database["uncertain"])),
        doubled=sorted(recipient for recipient, count in taken.items() if count > 1),
        unexpected=sorted(taken.keys() - asked),
        disagreements=list(_disagreements(database, taken, wanted_dead)),
    )


def report(verdict: Verdict) -> str:
    """The verdict as a person reads it."""
    total = sum(verdict.sent.values())
    lines = ["", f"  came in   {verdict.wanted:>7,} emails asked for, {sum(verdict.wanted_dead.values())} bad records among them"]
    for esp, count in verdict.sent.items():
        share = count / total if total else 0
        lines.append(f"  sent      {count:>7,} through {esp:<10} {share:6.1%}  {'█' * round(share * 30)}")
    if verdict.reported:
        lines.append("  told so far  " + ", ".join(f"{count:,} {kind}" for kind, count in sorted(verdict.reported.items())))
    for reason, count in sorted(verdict.dead.items()):
        asked = verdict.wanted_dead.get(reason, 0)
        lines.append(f"  dead      {count:>7,} {reason}" + ("" if asked == count else f"  (the producer meant {asked})"))
    lines += ["", f"  lost      {len(verdict.lost):>7,}", f"  doubled   {len(verdict.doubled):>7,}"]
    if verdict.unexpected:
        lines.append(f"  unasked   {len(verdict.unexpected):>7,}")
    for title, names in (("lost", verdict.lost), ("doubled", verdict.doubled), ("unasked", verdict.unexpected)):
        lines += [f"            {title}: {name}" for name in names[:10]]
    lines += ["", "  the database agrees" if not verdict.disagreements else "  THE DATABASE DISAGREES:"]
    return "\n".join(lines + [f"            {sentence}" for sentence in verdict.disagreements[:10]])


def _disagreements(database: dict[str, Any], taken: Counter[str], wanted_dead: dict[str, int]) -> Iterator[str]:
    sent = set(database["sent"])
    for recipient in sorted(sent - taken.keys())[:5]:
        yield f"it says that {recipient} was sent, no ESP has it"
    for recipient in sorted(taken.keys() - sent - set(database["uncertain"]))[:5]:
        yield f"{recipient} was sent, and it does not say so"
    if database["waiting"]:
        yield f"{database['waiting']} emails still wait"
    if database["dead_letters"] != wanted_dead:
        yield f"dead letters {database['dead_letters']}, the producer meant {wanted_dead}"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        for line in file:
            yield json.loads(line)


def main() -> int:
    verdict = judge(Path(sys.argv[1]))
    print(report(verdict))
    return 0 if verdict.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
