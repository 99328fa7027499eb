"""What the machine gives: processors, and a state folder that nobody else can have prepared."""

import os
from pathlib import Path

import pytest

from config.machine import available_cpus, ensure_state_dir
from mail.errors import BadSettings


def test_a_containers_quota_bounds_the_processors(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    assert available_cpus(quota) == 1
    quota.write_text("max 100000\n")
    assert available_cpus(quota) == len(os.sched_getaffinity(0)) == available_cpus(tmp_path / "missing")


def test_the_folder_is_made_for_its_user_only(tmp_path: Path) -> None:
    folder = ensure_state_dir(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert ensure_state_dir(folder) == folder


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    if os.geteuid() == 0:
        os.chown(theirs, 4242, 4242)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(BadSettings, match="STATE_DIR: belongs to another user"):
        ensure_state_dir(theirs)


def test_a_link_that_somebody_else_planted_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can plant another user's link")
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    os.lchown(link, 4242, 4242)
    with pytest.raises(BadSettings, match="belongs to another user"):
        ensure_state_dir(link)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match="STATE_DIR: cannot be made"):
        ensure_state_dir(tmp_path / "file")
