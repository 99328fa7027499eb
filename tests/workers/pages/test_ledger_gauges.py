"""Numbers for the metrics page that only the ledger knows."""

from mail.ids import new_id
from tests.workers.event_world import event
from workers.pages import ledger_gauges


def rates(world, calling_back=("sendgrid", "postmark")):
    samples = ledger_gauges.read(world.database, calling_back)
    return {sample.labels["provider"]: sample.value for sample in samples if sample.name == "email_delivery_success_rate"}


def send(world, provider, delivered, cohort=None):
    """A mail that the ESP took, and perhaps delivered. The delivery loop counts what is taken, so that is done here."""
    sent = world.send(provider=provider, stream="marketing", cohort=cohort or new_id(), answer="unknown")
    world.apply(event("delivered" if delivered else "processed", sent, provider=provider))
    return sent


def test_the_rate_is_the_share_of_what_an_esp_took_that_was_delivered(world):
    assert rates(world) == {}, "where nothing was sent there is no rate"
    for delivered in (True, True, True, False):
        send(world, "sendgrid", delivered)
    send(world, "postmark", False)
    assert rates(world) == {"sendgrid": 0.75, "postmark": 0.0}


def test_of_an_esp_that_never_calls_back_no_rate_is_known(world):
    send(world, "sendgrid", True)
    assert rates(world, calling_back=("postmark",)) == {}


def test_what_was_sent_more_than_a_day_ago_no_longer_counts(world):
    old = send(world, "sendgrid", False)
    send(world, "sendgrid", True)
    age = "UPDATE send_cohorts SET started_at = now() - interval '25 hours' WHERE id = %s"
    cohort = world.attempt(old)["cohort_id"]
    world.run(lambda cursor: cursor.execute(age, (cohort,)))
    assert rates(world) == {"sendgrid": 1.0}
