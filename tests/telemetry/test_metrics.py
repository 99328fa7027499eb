"""Metrics: the names of the contract, and that numbers outlive the processes that counted them."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetry import metric_files, metrics
from telemetry.scrape import GaugeSample, Scraper

# By hand, from the contract.
CONTRACT = {
    "email_jobs_processed_total": ("status", "provider", "priority"),
    "email_delivery_success_rate": ("provider",),
    "email_send_duration_seconds": ("provider",),
    "email_retries_total": ("provider", "reason"),
    "email_dead_letters_total": ("reason",),
    "email_dead_letters_retired_total": ("reason",),
    "email_template_renders_total": ("template",),
    "email_webhook_events_total": ("provider", "event"),
    "email_esp_weight": ("provider", "tenant"),
    "email_worker_up": ("role", "slot"),
    "email_worker_restarts_total": ("role",),
    "email_kafka_lag": ("topic", "partition"),
    "email_grpc_request_duration_seconds": ("service", "method", "code"),
    "email_oldest_unsent_seconds": ("lane",),
    "email_uncertain": ("provider",),
    "email_uncertain_held": ("provider", "reason"),
    "email_duplicates_confirmed_total": ("provider",),
    "email_due_rows": ("lane",),
    "email_lane_stopped": ("lane",),
    "email_outbox_rows": (),
    "email_webhook_watermark_seconds": ("provider", "tenant"),
    "email_postponed_callbacks": ("topic",),
    "email_weights_age_seconds": (),
    "email_breaker_open": ("provider", "tenant"),
    "email_batch_seconds": ("stage",),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    metric_files.use_directory(tmp_path)
    yield tmp_path
    metric_files.FILES.move_to(None, "")


def in_a_child(slot_name: str, work: Callable[[], None]) -> None:
    """What a worker does between its fork and a sudden end."""
    pid = os.fork()
    if pid == 0:
        try:
            metric_files.name_process(slot_name)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def scrape(folder: Path, *samples: GaugeSample) -> list[str]:
    return [line for line in Scraper(folder).text(samples).decode().splitlines() if not line.startswith("#")]


def dead(reason: str) -> None:
    metrics.DEAD_LETTERS.labels(reason).inc()


def test_the_metrics_are_those_of_the_contract_with_their_labels() -> None:
    assert {name: metric._labelnames for name, metric in metrics.DECLARED.items()} == CONTRACT


def test_every_help_text_says_what_to_do() -> None:
    for name in metrics.DECLARED:
        assert len(metrics.family(name).documentation.split(". ")) + metrics.family(name).documentation.count(":") > 1, name


def test_numbers_survive_killed_workers_and_go_on_in_the_same_files(folder: Path) -> None:
    for _ in range(5):
        in_a_child("delivery-0", lambda: dead("rejected"))
    in_a_child("delivery-1", lambda: dead("rejected"))
    assert 'email_dead_letters_total{reason="rejected"} 6.0' in scrape(folder)
    assert sorted(path.name for path in folder.glob("counter_delivery*.db")) == ["counter_delivery-0.db", "counter_delivery-1.db"]


def test_histograms_of_several_workers_are_added_up(folder: Path) -> None:
    for slot in range(2):
        in_a_child(f"delivery-{slot}", lambda: metrics.SEND_DURATION_SECONDS.labels("postmark").observe(0.3))
    text = scrape(folder)
    assert 'email_send_duration_seconds_count{provider="postmark"} 2.0' in text
    assert 'email_send_duration_seconds_bucket{le="0.2",provider="postmark"} 0.0' in text
    assert 'email_send_duration_seconds_bucket{le="0.4",provider="postmark"} 2.0' in text


def test_a_file_of_no_length_or_of_garbage_costs_its_own_numbers_only(folder: Path) -> None:
    in_a_child("delivery-0", lambda: dead("rejected"))
    (folder / "counter_delivery-1.db").write_bytes(b"")
    (folder / "counter_delivery-2.db").write_bytes(b"\x01\x02")
    (folder / "counter_delivery-3.db").write_bytes(b"\xff\xff\xff\x7f" * 100)
    (folder / "counter_delivery-4.db").write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00\xe4\xff\xff\xff" + b"\x00" * 200)
    (folder / "gauge.db").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00")
    assert 'email_dead_letters_total{reason="rejected"} 1.0' in scrape(folder)


@pytest.mark.parametrize("content", [b"", b"\x01", b"\xff\xff\xff\x7f" * 8, b"\x40\x00\x00\x00" + b"\x00" * 100])
def test_a_successor_starts_over_a_broken_file(folder: Path, content: bytes) -> None:
    (folder / "counter_delivery-0.db").write_bytes(content)
    in_a_child("delivery-0", lambda: dead("rejected"))
    assert 'email_dead_letters_total{reason="rejected"} 1.0' in scrape(folder)


def test_cleaning_up_after_a_death_takes_living_gauges_and_broken_files_of_that_slot_only(folder: Path) -> None:
    def live() -> None:
        metrics.WORKER_UP.labels("delivery", "0").set(1)
        dead("rejected")

    in_a_child("delivery-0", live)
    (folder / "histogram_delivery-0.db").write_bytes(b"")
    (folder / "histogram_delivery-1.db").write_bytes(b"")
    assert 'email_worker_up{role="delivery",slot="0"} 1.0' in scrape(folder)
    metric_files.clean_up(folder, "delivery-0")
    names = {path.name for path in folder.iterdir()}
    assert {"counter_delivery-0.db", "histogram_delivery-1.db"} <= names
    assert not {"histogram_delivery-0.db", "gauge_livesum_delivery-0.db"} & names
    assert not [line for line in scrape(folder) if line.startswith("email_worker_up")]


def test_the_newest_of_several_workers_gauges_counts_and_nan_takes_one_away(folder: Path) -> None:
    in_a_child("delivery-0", lambda: metrics.KAFKA_LAG.labels("jobs", "0").set(500))
    in_a_child("delivery-1", lambda: metrics.KAFKA_LAG.labels("jobs", "0").set(3))
    assert 'email_kafka_lag{partition="0",topic="jobs"} 3.0' in scrape(folder)
    in_a_child("delivery-1", lambda: metrics.KAFKA_LAG.labels("jobs", "0").set(float("nan")))
    assert not [line for line in scrape(folder) if line.startswith("email_kafka_lag")]


def test_the_start_of_a_supervisor_empties_the_folder_and_closes_it_to_others(folder: Path) -> None:
    (folder / "counter_delivery-99.db").write_bytes(b"old")
    inner = folder / "metrics"
    metric_files.use_directory(inner)
    metric_files.use_directory(folder)
    assert not (folder / "counter_delivery-99.db").exists()
    assert inner.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.glob("*.db"))


def test_a_slot_name_that_would_break_file_names_is_refused(folder: Path) -> None:
    for name in ("delivery_0", "../delivery"):
        with pytest.raises(ValueError, match="slot name"):
            metric_files.name_process(name)


def test_a_full_disk_costs_the_numbers_and_not_the_worker(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    metric_files.name_process("delivery-7")
    dead("rejected")
    assert not [line for line in scrape(folder) if line.startswith("email_dead_letters") and not line.endswith(" 0.0")]
    assert "a metric file cannot be opened: its numbers are not shown" in caplog.text


def test_metrics_may_be_imported_long_before_the_folder_is_known(tmp_path: Path) -> None:
    script = """
        import pathlib, sys
        from telemetry import metrics
        metrics.DEAD_LETTERS.labels("before").inc()
        from telemetry import metric_files
        metric_files.use_directory(pathlib.Path(sys.argv[1]))
        metric_files.name_process("delivery-0")
        metrics.DEAD_LETTERS.labels("after").inc(2)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True, timeout=30)
    assert 'email_dead_letters_total{reason="after"} 2.0' in scrape(tmp_path)


def test_what_the_exporter_asks_for_itself_replaces_what_files_say(folder: Path) -> None:
    in_a_child("delivery-0", lambda: metrics.DUE_ROWS.labels("high").set(7))
    text = scrape(folder, GaugeSample("email_due_rows", {"lane": "bulk"}, 2), GaugeSample("email_worker_restarts_total", {"role": "x"}, 4))
    assert [line for line in text if line.startswith("email_due_rows")] == ['email_due_rows{lane="bulk"} 2.0']
    assert 'email_worker_restarts_total{role="x"} 4.0' in text


def test_every_declared_metric_is_described_even_before_it_has_a_number(folder: Path) -> None:
    text = Scraper(folder).text().decode()
    for name in CONTRACT:
        assert f"# HELP {name} " in text and f"# TYPE {name} " in text


@pytest.mark.expect_errors
def test_a_gauge_that_nobody_declared_is_left_out_and_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not [line for line in scrape(folder, GaugeSample("email_nonsense", {}, 1)) if "nonsense" in line]
    assert "a gauge of an undeclared name is left out" in caplog.text


def test_a_missing_folder_gives_an_empty_scrape(tmp_path: Path) -> None:
    assert scrape(tmp_path / "nowhere") == []
