"""The ledger is the truth: whole lines only, numbered by request, across restarts and a full disk."""

import os
from pathlib import Path

import pytest

from sandbox.fakes.contract import Accepted
from sandbox.fakes.ledger import Ledger, read_ledger

ATTEMPT = "01JDV7Q2T4M8K5R9W3X6YZABCD"


def accepted(count: int) -> list[Accepted]:
    return [Accepted(ATTEMPT, f"m-{n}", f"u{n}@x.test", "Ü \n “hi”", n) for n in range(count)]


def test_each_mail_is_one_line_with_all_that_was_promised(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "postmark")
    assert ledger.append(accepted(1), 1_800_000_000.5) == 1
    assert list(read_ledger(tmp_path / "postmark.jsonl")) == [
        {
            "at": 1_800_000_000.5,
            "provider": "postmark",
            "attempt_id": ATTEMPT,
            "message_id": "m-0",
            "recipient": "u0@x.test",
            "subject": "Ü \n “hi”",
            "request": 1,
        }
    ]
    ledger.close()


def test_a_request_of_many_mails_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path, "sendgrid")
    sizes: list[int] = []
    write = os.write

    def watched(file: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(file, data)

    monkeypatch.setattr(os, "write", watched)
    ledger.append(accepted(500), 1.0)
    monkeypatch.undo()
    ledger.close()
    assert sizes == [ledger.path.stat().st_size]


def test_requests_are_numbered_on_after_a_restart(tmp_path: Path) -> None:
    first = Ledger(tmp_path, "sendgrid")
    first.append(accepted(2), 1.0)
    first.append(accepted(300), 2.0)
    first.close()
    second = Ledger(tmp_path, "sendgrid")
    assert second.append(accepted(1), 3.0) == 3
    second.close()
    lines = list(read_ledger(second.path))
    assert len(lines) == 303
    assert {line["request"] for line in lines} == {1, 2, 3}


@pytest.mark.parametrize("torn", [b'{"at": 1.0, "prov', b"x" * 100_000])
def test_a_line_that_a_crash_tore_is_cut_off_at_the_next_start(tmp_path: Path, torn: bytes) -> None:
    first = Ledger(tmp_path, "sendgrid")
    first.append(accepted(700), 1.0)
    first.close()
    whole = first.path.read_bytes()
    first.path.write_bytes(whole + torn[:60_000])
    assert len(list(read_ledger(first.path))) == 700
    second = Ledger(tmp_path, "sendgrid")
    assert second.path.read_bytes() == whole
    assert second.append(accepted(1), 2.0) == 2
    second.close()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path, "sendgrid")
    ledger.append(accepted(1), 1.0)
    before = ledger.path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    with pytest.raises(OSError, match="10 of"):
        ledger.append(accepted(1), 2.0)
    monkeypatch.undo()
    assert ledger.path.read_bytes() == before
    assert ledger.append(accepted(1), 3.0) == 2
    ledger.close()
    assert len(list(read_ledger(ledger.path))) == 2
