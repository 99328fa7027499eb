import json
import subprocess
import sys

import pytest

from sandbox.children import PROJECT
from sandbox.verdict import judge, report


@pytest.fixture
def run(tmp_path):
    """The files of a good run: forty emails through two ESPs, one of them uncertain, and one bad record."""
    wanted = [{"recipient": f"r{n}@example.com", "job": f"j{n}", "reason": ""} for n in range(40)]
    wanted.append({"recipient": "", "job": "bad", "reason": "not-json"})
    (tmp_path / "wanted.jsonl").write_text("".join(json.dumps(line) + "\n" for line in wanted))
    (tmp_path / "ledger").mkdir()
    for n, esp in enumerate(("postmark", "sendgrid")):
        lines = [{"recipient": f"r{k}@example.com"} for k in range(40) if k % 2 == n]
        write(tmp_path / "ledger" / f"{esp}.jsonl", lines)
    database = {
        "sent": [f"r{n}@example.com" for n in range(39)],
        "uncertain": ["r39@example.com"],
        "waiting": 0,
        "dead_letters": {"not-json": 1},
        "reported": {"delivered": 38, "opened": 9},
    }
    (tmp_path / "database.json").write_text(json.dumps(database))
    return tmp_path


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def exit_code(run):
    return subprocess.run([sys.executable, "-m", "sandbox.verdict", run], cwd=PROJECT, capture_output=True, check=False).returncode


def test_a_good_run_is_good_and_its_report_says_what_happened(run):
    verdict = judge(run)
    assert verdict.is_good
    assert verdict.sent == {"postmark": 20, "sendgrid": 20}
    text = report(verdict)
    assert "lost            0" in text
    assert "doubled         0" in text
    assert "38 delivered, 9 opened" in text
    assert "the database agrees" in text
    assert exit_code(run) == 0


def test_one_missing_ledger_line_is_a_lost_email_and_a_bad_exit(run):
    ledger = run / "ledger" / "postmark.jsonl"
    write(ledger, read(ledger)[1:])
    assert judge(run).lost == ["r0@example.com"]
    assert exit_code(run) == 1


def test_one_doubled_ledger_line_is_a_doubled_email_and_a_bad_exit(run):
    ledger = run / "ledger" / "sendgrid.jsonl"
    write(ledger, [*read(ledger), {"recipient": "r0@example.com"}])
    assert judge(run).doubled == ["r0@example.com"]
    assert exit_code(run) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"waiting": 1},
        {"dead_letters": {}},
        {"dead_letters": {"not-json": 1, "rejected": 1}},
        {"sent": []},
        {"sent": [f"r{n}@example.com" for n in range(39)] + ["nobody@example.com"]},
    ],
)
def test_a_database_that_tells_another_story_is_a_bad_exit(run, change):
    database = json.loads((run / "database.json").read_text())
    (run / "database.json").write_text(json.dumps(database | change))
    assert judge(run).disagreements
    assert exit_code(run) == 1


def test_a_mail_that_nobody_asked_for_is_a_bad_exit(run):
    ledger = run / "ledger" / "sendgrid.jsonl"
    write(ledger, [*read(ledger), {"recipient": "stranger@example.com"}])
    assert judge(run).unexpected == ["stranger@example.com"]
    assert exit_code(run) == 1
