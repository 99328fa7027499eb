"""The lock and the state file."""

import json
import os

from workers.supervising.state_files import LOCK_NAME, StateFile, take_lock


def in_child(work) -> int:
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_lock_is_had_once_and_is_free_when_its_holder_has_gone(tmp_path):
    assert in_child(lambda: not take_lock(tmp_path)) == 0
    assert take_lock(tmp_path)
    assert in_child(lambda: take_lock(tmp_path, patience_s=0.1)) == 0


def test_a_lock_that_becomes_free_within_the_patience_is_taken(tmp_path):
    descriptor = os.open(tmp_path / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            os.close(descriptor)

    assert take_lock(tmp_path, sleep=sleep)
    assert len(looks) == 3


def test_the_state_file_is_whole_at_every_time_and_gone_at_the_end(tmp_path):
    file = StateFile(tmp_path)
    path = tmp_path / "supervisor.json"
    file.write({"pid": 1})
    assert json.loads(path.read_text()) == {"pid": 1}
    inode = path.stat().st_ino
    file.write({"pid": 1})
    assert path.stat().st_ino == inode
    file.write({"pid": 2})
    assert json.loads(path.read_text()) == {"pid": 2}
    file.remove()
    assert list(tmp_path.iterdir()) == []
    file.remove()
