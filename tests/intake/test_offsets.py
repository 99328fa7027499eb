"""Which offset may be committed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake import offsets as offsets_module
from intake.offsets import Offsets


def delivered(*offsets: int) -> Offsets:
    found = Offsets()
    for offset in offsets:
        found.note_delivered(offset)
    return found


def test_only_an_unbroken_run_is_committed() -> None:
    offsets = delivered(5, 6, 7)
    assert not offsets.note_handled([6, 7])
    assert offsets.next_to_commit is None
    assert offsets.note_handled([5])
    assert offsets.next_to_commit == 8


def test_gaps_in_the_offsets_themselves_are_no_gaps() -> None:
    offsets = delivered(5, 9, 40)
    assert offsets.note_handled([5, 9])
    assert offsets.next_to_commit == 10


def test_offsets_of_an_earlier_assignment_count_for_nothing() -> None:
    offsets = delivered(5)
    assert not offsets.note_handled([3, 4, 6])
    assert not offsets.has_delivered(4)
    assert not Offsets().has_delivered(0)


def test_a_record_that_is_never_committed_ends_the_worker_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets_module, "IN_HAND_MOST", 10)
    offsets = delivered(*range(10))
    with pytest.raises(RuntimeError):
        offsets.note_delivered(10)


@given(st.permutations(range(30)))
def test_the_offset_never_moves_back_nor_past_what_is_handled(order: list[int]) -> None:
    offsets, handled, last = delivered(*range(30)), set[int](), 0
    for offset in order:
        handled.add(offset)
        has_moved = offsets.note_handled([offset])
        committed = offsets.next_to_commit or 0
        assert has_moved == (committed > last)
        assert committed == next(number for number in range(31) if number not in handled)
        last = committed


def test_before_the_position_everything_is_handled() -> None:
    offsets = Offsets()
    assert offsets.position is None, "where it begins is not known"
    offsets.note_end(7)
    assert offsets.position == 7, "nothing was left to be handed out"
    offsets.note_delivered(7)
    offsets.note_delivered(8)
    offsets.note_end(10)
    assert offsets.position == 7
    offsets.note_handled([7, 8])
    assert offsets.position == 10, "what is behind the last record is a gap"
    offsets.note_delivered(12)
    assert offsets.position == 12
    offsets.note_handled([12])
    assert offsets.position == 13
