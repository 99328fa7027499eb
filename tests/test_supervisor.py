"""The supervisor with real processes and toy roles: what kill -9, signals and time do to it."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import is_alive, wait_until

ROOT = Path(__file__).parents[1]
DRAIN_S = 5.0


class Site:
    """A folder, a service manager that listens, and supervisors that run there."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.setblocking(False)
        self.heard: list[str] = []
        self.log = (folder / "log").open("wb")

    def configure(self, **settings) -> None:
        values = {"drain_timeout_s": DRAIN_S, "version": 1, "roles": {"steady": 1}} | settings
        draft = self.folder / "settings.new"
        draft.write_text(json.dumps(values))
        draft.replace(self.folder / "settings.json")

    def launch(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_USEC": "30000000"}
        command = [sys.executable, "-m", "tests.workers.toy_supervisor", str(self.folder)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=self.log)
        self.processes.append(process)
        return process

    def start(self, **settings) -> subprocess.Popen[bytes]:
        self.configure(**settings)
        process = self.launch()
        wait_until(lambda: self.state().get("doing") == "running")
        return process

    def state(self) -> dict:
        return state_in(self.folder)

    def pids(self) -> dict[str, int]:
        return {member["name"]: member["pid"] for member in self.state().get("members", []) if member["pid"]}

    def member(self, name: str) -> dict:
        return next((member for member in self.state().get("members", []) if member["name"] == name), {})

    def notes(self, name: str) -> list[str]:
        path = self.folder / f"{name}.notes"
        return path.read_text().splitlines() if path.exists() else []

    def log_text(self) -> str:
        return (self.folder / "log").read_text()

    def hear(self) -> list[str]:
        while True:
            try:
                self.heard.append(self.manager.recv(4096).decode())
            except BlockingIOError:
                return self.heard

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.manager.close()
        self.log.close()


def state_in(state_dir: Path) -> dict:
    """What a supervisor tells of itself; nothing yet at its very start."""
    try:
        return json.loads((state_dir / "supervisor.json").read_text())
    except FileNotFoundError:
        return {}


def living_children(process: subprocess.Popen[bytes]) -> int:
    """By the kernel: the state file may still show one that has just been replaced."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sum(is_alive(int(pid)) for pid in children)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.close()


PLAIN_MAIN = """
import sys, supervisor
from workers.roles import Role
supervisor._find_problem = lambda settings: None
toy = Role("steady", "tests.workers.toys", lambda settings: settings.worker_concurrency, is_scaled=True)
sys.exit(supervisor.main(sys.argv[1:], [toy]))
"""


def run_program(folder: Path, *arguments: str, limit_s: float = 20, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real supervisor.py, run to its end."""
    command = [sys.executable, str(ROOT / "supervisor.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=bare_environment(folder) | environment, capture_output=True, text=True, timeout=limit_s)


def bare_environment(folder: Path) -> dict[str, str]:
    """Good settings that lead nowhere: the database's port answers nobody."""
    return {
        "PATH": os.environ["PATH"],
        "STATE_DIR": str(folder / "state"),
        "ENVIRONMENT": "development",
        "DB_HOST": "127.0.0.1",
        "DB_PORT": "9",
        "DB_PASSWORD": "none",
        "DB_SSL_MODE": "disable",
        "EMAIL_FROM_ADDRESS": "shop@example.com",
    }


def test_a_killed_child_comes_back_at_once(site):
    site.start(roles={"steady": 2})
    old = site.pids()["steady-0"]
    wait_until(lambda: site.notes("steady-0"))
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: len(site.notes("steady-0")) == 2)
    wait_until(lambda: site.pids().get("steady-0") not in (None, old))
    assert site.member("steady-0")["restarts"] == 1
    assert "SIGKILL: out of memory?" in site.log_text()


def test_fifty_kills_leave_as_many_processes_as_there_were(site):
    process = site.start(roles={"steady": 2})
    wait_until(lambda: site.notes("steady-1"))
    for _ in range(50):
        pid, lives = site.pids()["steady-1"], len(site.notes("steady-1"))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: site.pids().get("steady-1") not in (None, pid))
        wait_until(lambda lives=lives: len(site.notes("steady-1")) > lives)
    assert living_children(process) == 2


def test_a_crash_loop_slows_down_and_is_shown_to_systemd(site):
    site.configure(roles={"crasher": 1, "steady": 1})
    site.launch()
    wait_until(lambda: site.member("crasher-0").get("early_deaths", 0) >= 5, limit_s=15)
    times_s = [float(line.split()[-1]) for line in site.notes("crasher-0")]
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(times_s)]
    assert all(gap_s >= 0.05 * 2**n for n, gap_s in enumerate(gaps_s))
    wait_until(lambda: any("in a crash loop: crasher-0" in text for text in site.hear()))
    assert not any("READY=1" in text for text in site.heard)
    assert "crash loop" in site.log_text()
    assert site.pids()["steady-0"]


def test_a_stuck_child_is_aborted_with_its_stack_and_replaced(site):
    site.configure(roles={"stuck": 1})
    site.launch()
    wait_until(lambda: site.member("stuck-0").get("restarts", 0) >= 1)
    assert "process is stuck" in site.log_text()
    assert "_stuck" in site.log_text()
    assert "SIGABRT" in site.log_text()


def test_a_stopped_child_is_killed_after_the_abort(site):
    site.start(roles={"steady": 1})
    pid = site.pids()["steady-0"]
    wait_until(lambda: len(site.notes("steady-0")) == 1)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: not is_alive(pid), limit_s=30)
    wait_until(lambda: len(site.notes("steady-0")) >= 2)
    assert "SIGKILL" in site.log_text()


def test_term_drains_and_exits_0(site):
    process = site.start(roles={"steady": 2, "idle": 1})
    process.terminate()
    assert process.wait(timeout=20) == 0
    assert "drained" in site.notes("steady-0")[-1]
    assert "STOPPING=1" in "\n".join(site.hear())
    assert not (site.folder / "supervisor.json").exists()


def test_a_child_that_does_not_drain_is_told_to_stop_and_then_killed(site):
    process = site.start(roles={"deaf": 1}, drain_timeout_s=0.3)
    process.terminate()
    assert process.wait(timeout=10) == 0
    assert "did not leave in time" in site.log_text()
    assert "EXTEND_TIMEOUT_USEC" in "\n".join(site.hear())


@pytest.mark.parametrize("numbers", [(signal.SIGQUIT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_quit_or_a_second_term_does_not_wait_for_the_drain(site, numbers):
    process = site.start(roles={"slow": 1, "steady": 1}, drain_timeout_s=600)
    for number in numbers:
        seen = site.log_text().count('"signal"')
        process.send_signal(number)
        wait_until(lambda seen=seen: site.log_text().count('"signal"') > seen)
    assert process.wait(timeout=10) == 0
    assert "stopped now" in site.notes("slow-0")[-1]


def test_no_child_outlives_a_killed_supervisor_by_a_second(site):
    process = site.start(roles={"steady": 2, "deaf": 1})
    pids = list(site.pids().values())
    process.kill()
    process.wait()
    assert len(pids) == 3
    wait_until(lambda: not any(is_alive(pid) for pid in pids), limit_s=1)


def test_a_second_supervisor_is_refused_and_the_first_works_on(site):
    first = site.start()
    assert site.launch().wait(timeout=10) == 3
    assert first.poll() is None
    assert is_alive(site.pids()["steady-0"])


def test_a_successor_of_a_killed_supervisor_gets_in(site):
    first = site.start()
    first.kill()
    first.wait()
    old = site.state()["pid"]
    successor = site.launch()
    wait_until(lambda: site.state().get("pid") not in (None, old))
    assert site.state()["pid"] == successor.pid


def test_hup_replaces_the_children_one_by_one_with_the_new_settings(site):
    process = site.start(roles={"steady": 3})
    old = site.pids()
    site.configure(roles={"steady": 3}, version=2)
    process.send_signal(signal.SIGHUP)
    living = {3}
    wait_until(lambda: living.add(living_children(process)) or all("started 2" in " ".join(site.notes(name)) for name in old))
    wait_until(lambda: set(site.pids().values()).isdisjoint(old.values()))
    assert min(living) >= 2
    wait_until(lambda: "".join(site.hear()).count("READY=1") == 2)
    assert any("RELOADING=1" in text and "MONOTONIC_USEC=" in text for text in site.heard)


def test_hup_with_bad_settings_keeps_the_old_ones_and_says_so(site):
    process = site.start(roles={"steady": 1})
    pids = site.pids()
    site.configure(bad=True)
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload refused" in site.log_text())
    wait_until(lambda: "".join(site.hear()).count("READY=1") == 2)
    assert site.pids() == pids
    assert "be good" in site.log_text()


def test_hup_changes_the_number_of_processes(site):
    process = site.start(roles={"steady": 1})
    site.configure(roles={"steady": 3})
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(site.pids()) == 3)
    assert living_children(process) == 3


def test_ttin_adds_one_and_ttou_takes_one_but_never_the_last(site):
    process = site.start(roles={"steady": 1, "idle": 1})
    process.send_signal(signal.SIGTTIN)
    wait_until(lambda: "steady-1" in site.pids())
    process.send_signal(signal.SIGTTOU)
    wait_until(lambda: "steady-1" not in site.pids())
    wait_until(lambda: "drained" in site.notes("steady-1")[-1])
    process.send_signal(signal.SIGTTOU)
    wait_until(lambda: site.log_text().count("number of processes changed") == 3)
    assert site.state()["roles"] == {"steady": 1, "idle": 1}
    assert process.poll() is None


def test_processes_whose_duty_depends_on_the_number_are_replaced_when_it_changes(site):
    process = site.start(roles={"steady": 1}, duty_changes_at=2)
    wait_until(lambda: site.notes("steady-0"))
    process.send_signal(signal.SIGTTIN)
    wait_until(lambda: len([note for note in site.notes("steady-0") if "started" in note]) == 2)
    wait_until(lambda: "steady-1" in site.pids())
    process.send_signal(signal.SIGTTIN)
    wait_until(lambda: "steady-2" in site.pids())
    process.send_signal(signal.SIGTTOU)
    process.send_signal(signal.SIGUSR1)
    wait_until(lambda: "steady-2" not in site.pids())
    assert len([note for note in site.notes("steady-0") if "started" in note]) == 2


def test_usr1_writes_to_the_log_what_everybody_does(site):
    process = site.start(roles={"steady": 1})
    process.send_signal(signal.SIGUSR1)
    wait_until(lambda: '"stage":"working"' in site.log_text().replace('": "', '":"'))
    assert process.poll() is None


def test_ready_comes_after_all_have_beaten_and_the_watchdog_is_fed(site):
    site.start(roles={"steady": 2})
    wait_until(lambda: any("READY=1" in text for text in site.hear()))
    fed = sum("WATCHDOG=1" in text for text in site.heard)
    wait_until(lambda: sum("WATCHDOG=1" in text for text in site.hear()) > fed, limit_s=5)
    assert any("2 of 2 processes up" in text for text in site.heard)


def test_an_idle_supervisor_sleeps(site):
    process = site.start(roles={"idle": 1})

    def switches() -> int:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])

    fed = sum("WATCHDOG=1" in text for text in site.hear())
    before = switches()
    wait_until(lambda: sum("WATCHDOG=1" in text for text in site.hear()) >= fed + 2, limit_s=5)
    assert switches() - before < 20


def test_the_supervisor_owns_one_thread_and_no_socket(site):
    process = site.start(roles={"steady": 1})
    assert len(os.listdir(f"/proc/{process.pid}/task")) == 1
    targets = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")]
    assert not [target for target in targets if target.startswith("socket:")]


def test_bad_settings_are_all_listed_and_nothing_is_started(tmp_path):
    ended = run_program(tmp_path, "--workers", "0", ESP_TIMEOUT_SECONDS="soon", DB_PORT="0", LOG_LEVEL="loud")
    assert ended.returncode == 4
    for name in ("WORKER_CONCURRENCY", "ESP_TIMEOUT_SECONDS", "DB_PORT", "LOG_LEVEL"):
        assert name in ended.stderr
    assert not (tmp_path / "state").exists()


def test_a_state_dir_that_cannot_be_used_is_a_bad_setting(tmp_path):
    (tmp_path / "file").touch()
    ended = run_program(tmp_path, STATE_DIR=str(tmp_path / "file" / "state"))
    assert ended.returncode == 4
    assert "STATE_DIR" in ended.stderr


def test_bad_arguments_end_like_bad_settings(tmp_path):
    assert run_program(tmp_path, "--wrokers", "3").returncode == 4
    assert run_program(tmp_path, "--seed", "--check").returncode == 4


def test_the_help_tells_signals_and_exit_codes(tmp_path):
    text = run_program(tmp_path, "--help").stdout
    for word in ("--workers", "--seed", "--check", "TTIN", "HUP", "exit codes", "TERM"):
        assert word in text


def test_without_a_database_nothing_is_started_and_the_exit_code_is_3(tmp_path):
    ended = run_program(tmp_path, "--workers", "1")
    assert ended.returncode == 3
    assert "could not start" in ended.stderr
    assert "process started" not in ended.stderr
    assert run_program(tmp_path, "--check").returncode == 3


def test_the_whole_program_starts_serves_and_ends(tmp_path):
    state_dir = tmp_path / "state"
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-c", PLAIN_MAIN, "--workers", "2"]
        environment = bare_environment(tmp_path) | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=log)
    try:
        wait_until(lambda: (state_dir / "steady-1.notes").exists())
        wait_until(lambda: state_in(state_dir).get("doing") == "running")
        refused = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20)
        assert refused.returncode == 3
        assert "another supervisor" in refused.stderr
        assert (state_dir / "metrics").is_dir()
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
    assert '"level":"error"' not in (tmp_path / "log").read_text().replace('": "', '":"')
