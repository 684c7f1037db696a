"""Holds one container: starts its main process and sees to it that no process of it outlives the container.

Usage: shim.py PARENT_PID PROGRAM [ARGUMENT...]. Run by `sandbox/containers.py` in a session of its own, with
the parent-death signal set to SIGHUP. Standard library only, and no import of this project, so that it starts
fast.

- SIGTERM, SIGINT, SIGUSR1, SIGUSR2 go on to the main process.
- SIGHUP (the parent is gone) kills everything at once.
- When the main process ends, all that is left is killed and the shim ends with its exit status (128+n for
signals).
- When the shim itself is killed, a guardian forked from it kills the container's process group.
- The container's TMPDIR is removed with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_CANNOT_START = 127

_libc = ctypes.CDLL(None, use_errno=True)


def descendants(root: int) -> list[int]:
    """Return the ids of every process below one, nearest first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # The name, in brackets, may hold blanks; the parent is the second field after it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    level = [root]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found += level
    return found


def kill_descendants(keep: int) -> None:
    """Kill and reap every process below this one but `keep`, those too that are forked meanwhile."""
    while True:
        left = [pid for pid in descendants(os.getpid()) if pid != keep]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # As their reaper this process gets every orphan; a child that is not its own yet is met in the next
        # round.
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def start_guardian(temporary: str) -> int:
    """Fork a process that, when this one is gone, clears up after it and kills its group; return its id."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reading)
        os.set_inheritable(writing, False)
        return pid
    os.close(writing)
    for number in (*_FORWARDED, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.read(reading, 1)  # ends when the last holder of the other end, the shim, is gone
    shutil.rmtree(temporary, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)
    os._exit(0)


def start_main(argv: list[str]) -> int:
    """Fork the main process, which is killed if this process dies; return its id."""
    pid = os.fork()
    if pid:
        return pid
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execv(argv[0], argv)  # noqa: S606  # the program was resolved by the caller; no shell is wanted
    except OSError as error:
        sys.stderr.write(f"exec {argv[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(_CANNOT_START)


def run(parent: int, argv: list[str]) -> int:
    """Run the container to its end and return its exit status."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # Signals are taken one by one with sigwait, so none can arrive between a check and a wait.
    signals = {*_FORWARDED, signal.SIGHUP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    guardian = start_guardian(os.environ["TMPDIR"])
    main = start_main(argv)
    if os.getppid() != parent:  # it died before its death could be signalled
        kill_descendants(keep=guardian)
        return 128 + signal.SIGHUP
    while True:
        number = signal.sigwait(signals)
        if number == signal.SIGHUP:
            kill_descendants(keep=guardian)
            return 128 + signal.SIGHUP
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(main, number)
            continue
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                if pid == main:
                    kill_descendants(keep=guardian)
                    code = os.waitstatus_to_exitcode(status)
                    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    # Once this process has ended, the guardian kills what is left of the group: itself.
    status = run(int(sys.argv[1]), sys.argv[2:])
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
    os._exit(status)
