"""Up to when all callbacks are applied: known under load, however late behind a stall, and where nothing ever comes."""

from datetime import UTC, datetime, timedelta

import pytest

from workers.feedback.progress import Progress

A, B = ("webhook-ses", 0), ("webhook-ses", 1)
BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


class Topic:
    """A topic and its reader; `turn` is a look of the worker, so many seconds after the beginning."""

    def __init__(self):
        self.ends, self.positions = {A: 0, B: 0}, {A: 0, B: 0}
        self.is_answering = True
        self.progress = Progress(lambda: self.positions, lambda: self.ends if self.is_answering else {})

    def turn(self, at_s):
        """The seconds up to which each partition is applied, as far as this look tells something new."""
        reached = self.progress.reached()
        self.progress.look(BEGAN + timedelta(seconds=at_s))
        return {place: (at - BEGAN).total_seconds() for place, at in reached.items() if at}

    def read(self, **upto):
        self.positions.update({{"a": A, "b": B}[name]: offset for name, offset in upto.items()})


@pytest.fixture
def topic():
    return Topic()


def test_a_topic_that_is_never_empty_is_known_up_to_the_look_before(topic):
    said = []
    for second in range(0, 50, 5):
        said.append(topic.turn(second).get(A))
        handled = topic.ends[A]
        topic.ends[A] += 1_000
        topic.read(a=handled + 10)
    assert said == [None, *range(0, 45, 5)], "though 990 callbacks waited at each look"


def test_behind_a_stall_nothing_is_known_and_then_only_up_to_when_it_began(topic):
    topic.ends[A] = 100
    topic.turn(0)
    for second in range(5, 600, 5):
        topic.read(a=50)
        topic.ends[A] += 10
        assert A not in topic.turn(second)
    topic.read(a=100)
    assert topic.turn(600)[A] == 0.0, "of what came since, nothing is said yet"
    topic.read(a=topic.ends[A])
    assert topic.turn(605)[A] == 600.0


def test_an_idle_topic_is_known_up_to_the_look_before(topic):
    assert topic.turn(0) == {}
    assert [topic.turn(second) for second in (5, 10)] == [{A: 0.0, B: 0.0}, {A: 5.0, B: 5.0}]


def test_where_the_broker_does_not_answer_nothing_is_said_however_much_seems_to_be_handled(topic):
    topic.turn(0)
    topic.is_answering = False
    assert topic.turn(5) == {A: 0.0, B: 0.0}
    assert [topic.turn(second) for second in (10, 15)] == [{}, {}]


def test_a_partition_that_went_away_and_came_back_is_not_believed_for_what_was_seen_before(topic):
    topic.turn(0)
    gone = topic.positions.pop(A)
    assert A not in topic.progress.reached()
    topic.positions[A] = gone
    assert A not in topic.turn(10)
    assert topic.turn(15)[A] == 10.0


def test_a_partition_of_which_nothing_is_known_yet_is_named_all_the_same(topic):
    topic.positions[A] = None
    topic.turn(0)
    assert topic.progress.reached() == {A: None, B: BEGAN}
