"""What systemd hears and how often, on a clock of ours."""

from workers.supervising.announcer import Announcer


class FakeNotifier:
    def __init__(self, watchdog_interval_s=None):
        self.watchdog_interval_s = watchdog_interval_s
        self.said = []

    def __getattr__(self, name):
        return lambda *arguments: self.said.append((name, *arguments))


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


def test_the_status_is_said_only_when_it_changes():
    notifier = FakeNotifier()
    announcer = Announcer(notifier, Clock())
    for status in ("1 of 2", "1 of 2", "2 of 2"):
        announcer.turn(status, is_ending=False)
    assert [said for said in notifier.said if said[0] == "status"] == [("status", "1 of 2"), ("status", "2 of 2")]


def test_the_watchdog_is_fed_once_a_second_and_oftener_where_systemd_wants_it():
    for interval_s, fed_times in ((15.0, 5), (0.5, 10)):
        notifier, clock = FakeNotifier(interval_s), Clock()
        announcer = Announcer(notifier, clock)
        for _ in range(50):
            announcer.turn("same", is_ending=False)
            clock.now_s += 0.1001
        assert abs(notifier.said.count(("watchdog",)) - fed_times) <= 1


def test_more_time_is_asked_for_only_at_the_end():
    notifier, clock = FakeNotifier(), Clock()
    announcer = Announcer(notifier, clock)
    announcer.turn("running", is_ending=False)
    assert "extend_timeout" not in str(notifier.said)
    clock.now_s += 2
    announcer.turn("draining", is_ending=True)
    assert ("extend_timeout", 10.0) in notifier.said


def test_it_is_ready_once_it_has_said_so():
    notifier = FakeNotifier()
    announcer = Announcer(notifier, Clock())
    assert not announcer.is_ready
    announcer.ready()
    assert announcer.is_ready
    assert notifier.said == [("ready",)]
