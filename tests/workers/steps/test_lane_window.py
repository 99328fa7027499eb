"""The last 1,000 emails of a lane, as all workers of a host see them."""

import os
import random
from collections import deque

import pytest

from workers.steps.lane_window import SIZE, open_window


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lanes"


def test_it_counts_the_last_thousand_whatever_the_pieces(path):
    window, chance, truth = open_window(path), random.Random(7), deque(maxlen=SIZE)
    for _ in range(300):
        piece = [chance.random() < 0.3 for _ in range(chance.choice([0, 1, 3, 250, SIZE, SIZE + 1, 2500]))]
        truth.extend(piece)
        assert window.note("normal", piece) == sum(truth)


def test_lanes_do_not_mix_and_a_cleared_one_begins_anew(path):
    window = open_window(path)
    window.note("high", [True] * 10)
    assert window.note("bulk", [True] * 3) == 3
    window.clear("high")
    assert (window.note("high", [True]), window.note("bulk", [])) == (1, 3)


def test_all_processes_of_a_host_fill_the_same_window(path):
    children = 4
    for _ in range(children):
        pid = os.fork()
        if pid == 0:
            window = open_window(path)
            for _ in range(100):
                window.note("normal", [True])
            os._exit(0)
    for _ in range(children):
        os.wait()
    assert open_window(path).note("normal", []) == children * 100


def test_a_file_with_nonsense_in_it_is_only_a_few_wrong_marks(path):
    path.write_bytes(b"\xff" * 4096)
    assert open_window(path).note("normal", [False] * SIZE) == 0
