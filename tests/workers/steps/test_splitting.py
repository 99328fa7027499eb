"""What the sender makes of adapters that misread a reply: whatever they say, each message comes to one end."""

import pytest

from mail.account import Account
from mail.outcome import Blame, Outcome, Reply, Request, Verdict
from tests.esp.messages import message
from workers.failpoints import Failpoints
from workers.steps.sending import Sender

ACCOUNT = Account("pigeon", 0, "http://127.0.0.1:9", {})


class FlightLog:
    def prepare(self, ids):
        return tuple(ids)

    def mark_leaving(self, handle):
        pass

    def answer(self, handle, outcomes):
        pass


class Wire:
    def __init__(self):
        self.requests = []

    def send_all(self, requests, on_leaving, may_begin):
        for request in requests:
            assert may_begin(request) and on_leaving(request)
            self.requests.append(request)
            yield request, Reply(200, {}, b"")


class Esp:
    """Says of each reply what it is told to say."""

    def __init__(self, speak):
        self.interpret = lambda request, reply: speak(request)

    def prepare(self, messages):
        return [Request("POST", ACCOUNT.base_url, {}, b"", tuple(messages))] if messages else []


def sent(speak, count):
    wire = Wire()
    sender = Sender(lambda account: Esp(speak), wire, FlightLog(), lambda: True, Failpoints({}, None), lambda account, outcomes: None)
    outcomes = list(sender.send(sender.prepare(ACCOUNT, [message() for _ in range(count)])))
    return outcomes, wire.requests


def split(request):
    return [Outcome(m.attempt_id, Verdict.SPLIT, Blame.NEIGHBOUR) for m in request.messages]


def test_a_request_that_is_split_for_ever_ends_with_each_mail_alone(expect_errors):
    outcomes, requests = sent(split, 8)
    assert [len(request.messages) for request in requests] == [8, 4, 4, 2, 2, 2, 2, *[1] * 8]
    assert [(o.verdict, o.blame) for o in outcomes] == [(Verdict.UNKNOWN, Blame.US)] * 8


@pytest.mark.parametrize("keep", [slice(0, 0), slice(0, 1), slice(None, None, -1)])
def test_an_adapter_that_does_not_speak_of_every_message_in_order_leaves_all_of_them_open(expect_errors, keep):
    outcomes, requests = sent(lambda r: [Outcome(m.attempt_id, Verdict.REJECTED, Blame.MESSAGE) for m in r.messages][keep], 2)
    assert len(requests) == 1
    assert [(o.verdict, o.blame) for o in outcomes] == [(Verdict.UNKNOWN, Blame.US)] * 2
