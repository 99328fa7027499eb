"""The exporter: its pages, and that neither a broken file, a hanging database nor a rude client keeps it from answering."""

import http.client
import json
import mmap
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.settings import load_settings
from telemetry import metric_files, metrics
from telemetry.scrape import GaugeSample
from tests.waiting import wait_until
from workers import exporter as role
from workers.exporter import CachedGauges, Exporter, check_supervisor, check_workers, worker_gauges
from workers.supervising.heartbeat import SIZE_BYTES, Beat, Heartbeats

WELL = Beat("delivery", 0, 41, 1, "polling", beat_ns=100, deadline_ns=1_000, batches=5, messages=9, restarts=2, crashes=0)


@contextmanager
def serving(
    folder: Path, gauges: Callable[[], Iterable[GaugeSample]] = list, checks: dict[str, Any] | None = None, **more: Any
) -> Iterator[tuple[Exporter, list[int]]]:
    exporter = Exporter(folder, 0, gauges, checks or {}, **more)
    stop, beats = threading.Event(), []
    thread = threading.Thread(target=exporter.serve_until, args=(stop.is_set, lambda: beats.append(1)))
    thread.start()
    try:
        yield exporter, beats
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def get(exporter: Exporter, path: str, method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", exporter.bound_port, timeout=10)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, reply.headers["Content-Type"], reply.read().decode()
    finally:
        connection.close()


def failing() -> list[GaugeSample]:
    raise ConnectionError("the database is away")


def test_metrics_show_what_workers_counted_and_what_is_read_for_the_scrape(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        metric_files.use_directory(tmp_path, "delivery-0")
        metrics.DEAD_LETTERS.labels("rejected").inc(3)
        os._exit(0)
    os.waitpid(pid, 0)
    with serving(tmp_path, lambda: [GaugeSample("email_due_rows", {"lane": "high"}, 12)]) as (exporter, _):
        status, kind, text = get(exporter, "/metrics")
    assert status == 200 and kind.startswith("text/plain")
    assert 'email_dead_letters_total{reason="rejected"} 3.0' in text
    assert 'email_due_rows{lane="high"} 12.0' in text


def test_metrics_answer_200_whatever_lies_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "counter_delivery-0.db").write_bytes(b"")
    (tmp_path / "histogram_delivery-1.db").write_bytes(os.urandom(5_000))
    with serving(tmp_path) as (exporter, _):
        assert get(exporter, "/metrics?name[]=x")[0] == 200


@pytest.mark.expect_errors
def test_metrics_answer_200_without_the_gauges_that_cannot_be_read(tmp_path: Path) -> None:
    with serving(tmp_path, failing) as (exporter, _):
        assert get(exporter, "/metrics")[0] == 200


def test_ready_follows_the_checks_and_live_does_not(tmp_path: Path) -> None:
    problem: list[str | None] = [None]
    with serving(tmp_path, checks={"database": lambda: problem[0]}, liveness={"supervisor": lambda: None}) as (exporter, _):
        assert [get(exporter, path)[0] for path in ("/health", "/health/live", "/health/ready")] == [200, 200, 200]
        problem[0] = "it does not answer"
        assert [get(exporter, path)[0] for path in ("/health", "/health/live", "/health/ready")] == [503, 200, 503]
        told = json.loads(get(exporter, "/health")[2])
    assert told["status"] == "failing"
    assert told["checks"]["database"]["detail"] == "it does not answer"
    assert told["checks"]["supervisor"]["status"] == "ok"


def test_live_fails_when_waiting_is_of_no_use(tmp_path: Path) -> None:
    with serving(tmp_path, liveness={"supervisor": lambda: "stuck"}) as (exporter, _):
        assert get(exporter, "/health/live")[0] == 503


def test_the_front_page_is_for_people_and_escapes_what_it_shows(tmp_path: Path) -> None:
    def samples() -> list[GaugeSample]:
        return [*worker_gauges([WELL, replace(WELL, slot=1, pid=0)], 500), GaugeSample("email_due_rows", {"lane": "<i>high"}, 3)]

    with serving(tmp_path, samples, {"database": lambda: "<script>"}, name="worker <1>") as (exporter, _):
        status, kind, page = get(exporter, "/")
    assert status == 200 and kind.startswith("text/html")
    assert all(f'href="{path}"' in page for path in ("/metrics", "/health", "/health/live", "/health/ready"))
    assert "worker &lt;1&gt;" in page and "&lt;script&gt;" in page and "&lt;i&gt;high" in page
    assert "<script>" not in page and ">up<" in page and ">down<" in page


def test_other_paths_and_methods_are_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as (exporter, _):
        assert get(exporter, "/../etc/passwd")[0] == 404
        assert get(exporter, "/metrics", "DELETE")[0] == 405
        status, _, body = get(exporter, "/metrics", "HEAD")
    assert (status, body) == (200, "")


def test_what_is_no_request_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as (exporter, _):
        for rubbish in (b"\x16\x03\x01 hello\r\n\r\n", b"GET\r\n\r\n", b"A" * 20_000):
            with socket.create_connection(("127.0.0.1", exporter.bound_port), timeout=10) as client:
                client.sendall(rubbish)
                assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_silent_clients_do_not_hold_up_the_others(tmp_path: Path) -> None:
    with serving(tmp_path) as (exporter, beats):
        silent = [socket.create_connection(("127.0.0.1", exporter.bound_port), timeout=10) for _ in range(3)]
        try:
            before = time.monotonic()
            assert get(exporter, "/metrics")[0] == 200
            assert time.monotonic() - before < 3
            seen = len(beats)
            wait_until(lambda: len(beats) > seen)
        finally:
            for client in silent:
                client.close()


def test_it_beats_while_it_serves_and_its_port_is_free_afterwards(tmp_path: Path) -> None:
    with serving(tmp_path) as (exporter, beats):
        wait_until(lambda: len(beats) >= 2)
        port = exporter.bound_port
    with socket.create_server(("127.0.0.1", port)) as successor:
        assert successor.getsockname()[1] == port


def test_a_taken_port_is_an_error_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        Exporter(tmp_path, other.getsockname()[1], list, {})


def test_costly_gauges_are_read_at_most_once_in_their_time() -> None:
    reads: list[int] = []

    def read() -> list[GaugeSample]:
        reads.append(1)
        return [GaugeSample("email_outbox_rows", {}, len(reads))]

    cached = CachedGauges(read, keep_s=60)
    assert [cached()[0].value for _ in range(5)] == [1, 1, 1, 1, 1]
    eager = CachedGauges(read, keep_s=0)
    assert eager()[0].value < eager()[0].value


def test_a_hanging_reading_costs_its_deadline_and_is_not_started_twice() -> None:
    release, reads = threading.Event(), []

    def hang() -> list[GaugeSample]:
        reads.append(1)
        release.wait(10)
        return [GaugeSample("email_outbox_rows", {}, 1)]

    cached = CachedGauges(hang, keep_s=0, deadline_s=0.05)
    assert (cached(), cached(), len(reads)) == ([], [], 1)
    release.set()
    wait_until(lambda: len(cached()) == 1)


def test_numbers_that_can_no_longer_be_read_vanish_instead_of_freezing(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([[GaugeSample("email_outbox_rows", {}, 1)]])
    cached = CachedGauges(lambda: next(answers), keep_s=0, stale_s=0.2)
    assert len(cached()) == 1
    wait_until(lambda: cached() == [])
    assert "gauges could not be read" in caplog.text


def test_worker_gauges_tell_living_slots_from_dead_and_stuck_ones() -> None:
    beats = [WELL, replace(WELL, slot=1, pid=0), replace(WELL, slot=2, deadline_ns=400), replace(WELL, role="keeper", restarts=7)]
    samples = {(sample.name, *sample.labels.values()): sample.value for sample in worker_gauges(beats, now_ns=500)}
    assert samples == {
        ("email_worker_up", "delivery", "0"): 1,
        ("email_worker_up", "delivery", "1"): 0,
        ("email_worker_up", "delivery", "2"): 0,
        ("email_worker_up", "keeper", "0"): 1,
        ("email_worker_restarts_total", "delivery"): 6,
        ("email_worker_restarts_total", "keeper"): 7,
    }


def test_ready_needs_a_living_process_of_every_role() -> None:
    dead = replace(WELL, slot=1, pid=0)
    assert check_workers([WELL, dead], 500) is None
    assert check_workers([dead, replace(WELL, role="keeper")], 500) == "no process is up for: delivery"


def test_live_fails_when_a_stuck_process_is_not_replaced_for_minutes() -> None:
    second = 1_000_000_000
    assert check_supervisor([WELL], now_ns=60 * second) is None
    assert check_supervisor([WELL], now_ns=200 * second) == "stuck and not replaced: delivery-0"
    assert check_supervisor([replace(WELL, pid=0)], now_ns=200 * second) is None


def test_the_role_serves_where_it_says_until_it_is_asked_to_leave(tmp_path: Path) -> None:
    heartbeats = Heartbeats(mmap.mmap(-1, SIZE_BYTES))
    cell = heartbeats.cell(0)
    cell.assign("exporter", 0)
    cell.expect(1, 0, 0, 60)
    cell.occupy(os.getpid())
    settings = load_settings({"STATE_DIR": str(tmp_path), "METRICS_PORT": "0", "ENVIRONMENT": "test"}, None)
    draining = threading.Event()
    context: Any = SimpleNamespace(
        name="exporter-0",
        settings=settings,
        shared=SimpleNamespace(heartbeats=heartbeats),
        is_draining=draining.is_set,
        is_stopping_now=lambda: False,
        beat=cell.beat,
    )
    thread = threading.Thread(target=role.run, args=(context,))
    thread.start()
    try:
        wait_until((tmp_path / "exporter.json").exists)
        place = SimpleNamespace(bound_port=json.loads((tmp_path / "exporter.json").read_text())["port"])
        wait_until(lambda: cell.has_beaten)
        assert get(place, "/health/live")[0] == 200  # type: ignore[arg-type]
        assert 'email_worker_up{role="exporter",slot="0"} 1.0' in get(place, "/metrics")[2]  # type: ignore[arg-type]
    finally:
        draining.set()
        thread.join(10)
    assert not thread.is_alive()
