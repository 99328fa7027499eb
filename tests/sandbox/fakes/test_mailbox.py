"""The mailbox keeps the newest mails and gives their bodies back, within its bounds in memory and on disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.fakes.contract import Accepted
from sandbox.fakes.mailbox import Mailbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mails"


@pytest.fixture
def mailbox(folder: Path) -> Iterator[Mailbox]:
    box = Mailbox(folder, limit=10, max_bytes=4000, segment_bytes=1000)
    yield box
    box.close()


def accepted(*recipients: str) -> list[Accepted]:
    return [Accepted(None, "m", recipient, "Hi", item) for item, recipient in enumerate(recipients)]


def test_mails_are_numbered_through_all_esps_and_come_newest_first(mailbox: Mailbox) -> None:
    mailbox.put("sendgrid", 1.0, 1, b"one", accepted("a@x.test", "b@x.test"))
    mailbox.put("postmark", 2.0, 1, b"two", accepted("c@x.test"))
    assert [(entry.n, entry.esp, entry.recipient) for entry in mailbox.newest_first()] == [
        (3, "postmark", "c@x.test"),
        (2, "sendgrid", "b@x.test"),
        (1, "sendgrid", "a@x.test"),
    ]
    assert [entry.n for entry in mailbox.newest_first(before=3)] == [2, 1]
    assert mailbox.counts == {"sendgrid": 2, "postmark": 1}


def test_a_body_is_given_back_byte_by_byte(mailbox: Mailbox) -> None:
    bodies = [bytes([n]) * (n * 30) for n in range(1, 9)]
    for body in bodies:
        mailbox.put("sendgrid", 1.0, 1, body, accepted("a@x.test"))
    assert [mailbox.body(entry) for entry in mailbox.newest_first()] == bodies[::-1]


def test_what_is_older_than_the_limit_is_forgotten_in_memory_and_on_disk(mailbox: Mailbox, folder: Path) -> None:
    for n in range(100):
        mailbox.put("sendgrid", 1.0, n, b"x" * 300, accepted("a@x.test"))
    assert [entry.n for entry in mailbox.newest_first()] == list(range(100, 90, -1))
    assert mailbox.find(90) is None
    assert all(mailbox.body(entry) for entry in mailbox.newest_first())
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 6000
    assert mailbox.counts["sendgrid"] == 100


def test_bodies_that_are_too_big_together_go_before_their_index(mailbox: Mailbox, folder: Path) -> None:
    for n in range(8):
        mailbox.put("sendgrid", 1.0, n, b"x" * 1500, accepted("a@x.test"))
    entries = list(mailbox.newest_first())
    assert len(entries) == 8
    assert mailbox.body(entries[0]) == b"x" * 1500
    assert mailbox.body(entries[-1]) is None
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4000 + 1500


def test_a_quiet_esps_last_mails_stay_readable_while_another_is_loud(mailbox: Mailbox) -> None:
    mailbox.put("postmark", 1.0, 1, b"quiet", accepted("q@x.test"))
    for n in range(9):
        mailbox.put("sendgrid", 1.0, n, b"x" * 600, accepted("a@x.test"))
    quiet = mailbox.find(1)
    assert quiet is not None
    assert mailbox.body(quiet) == b"quiet"


def test_numbers_that_never_were_are_not_found(mailbox: Mailbox) -> None:
    assert mailbox.find(1) is None
    mailbox.put("sendgrid", 1.0, 1, b"one", accepted("a@x.test"))
    assert mailbox.find(0) is None
    assert mailbox.find(2) is None


def test_bodies_of_an_earlier_run_are_removed_at_the_start(folder: Path) -> None:
    folder.mkdir()
    (folder / "sendgrid-000001.mails").write_bytes(b"old")
    Mailbox(folder).close()
    assert list(folder.iterdir()) == []
