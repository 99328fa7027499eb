"""The first instructions of every child of the embedded world: give up root if asked, die when the parent dies, then exec.

Run as a script (`python -I -S leash.py PARENT_PID UID GID PROGRAM ARGUMENT...`, uid -1 = stay who you are), because a
preexec_fn runs Python between fork and exec, which deadlocks now and then in a parent with threads (and warns since 3.12).
It must never import more than it needs, as it is paid for at each start, and it must never start the program unleashed.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(uid: int, gid: int) -> None:
    """Turn root into another user, for good, without any of root's groups."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with(parent_pid: int, libc: ctypes.CDLL) -> None:
    """Ask the kernel to kill this process when its parent is gone; exit at once where that has already happened.

    Has to come after setuid, which clears the setting (prctl(2), Linux 6.18; read 2026-11).
    """
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"leash: prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        sys.exit("leash: the parent is already gone")


def main(arguments: list[str]) -> None:
    parent_pid, uid, gid = (int(argument) for argument in arguments[:3])
    command = arguments[3:]
    libc = ctypes.CDLL(None, use_errno=True)
    if uid >= 0:
        become(uid, gid)
    die_with(parent_pid, libc)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"leash: cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
