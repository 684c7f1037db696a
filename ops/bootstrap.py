"""Makes the project's environment, `.venv`, from requirements.lock: the slow half of the launcher `berth`.

Runs under any Python 3.11 or newer with nothing but the standard library. The environment counts as made only
when its stamp is written, last; one that was interrupted is made again, from uv's cache.
"""

from __future__ import annotations

import ast
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
LOCK_FILE = HOME / "requirements.lock"
VENV = HOME / ".venv"
STAMP = VENV / ".berth"
PYTHON = VENV / "bin" / "python"

# pip's setting -> the variable by which uv learns the same.
_PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_CONFIG_FILE")


class BootstrapError(Exception):
    """The environment cannot be made; the message says why and what to do."""


def _say(line: str) -> None:
    print(f"berth: {line}", file=sys.stderr, flush=True)


def is_made() -> bool:
    """Say whether the environment is whole, was made in this folder and from this lock."""
    try:
        return (
            (STAMP / "home").read_text() == f"{HOME}\n"
            and (STAMP / LOCK_FILE.name).read_bytes() == LOCK_FILE.read_bytes()
            and os.access(PYTHON, os.X_OK)
        )
    except FileNotFoundError:
        return False


def uv_settings(pip_config_list: str, environment: dict[str, str]) -> dict[str, str]:
    """Translate what pip is configured with into uv's variables, so that both ask the same index.

    Args:
        pip_config_list: the output of `pip config list`: settings of files and of PIP_* variables.
        environment: the present variables. Whatever uv is told by them stays; if they name an index for uv,
            pip's index is not passed on.
    """
    settings: dict[str, str] = {}
    for line in pip_config_list.splitlines():
        key, separator, quoted = line.partition("=")
        name = key.rpartition(".")[2]
        if not separator or name not in _PIP_TO_UV:
            continue
        values = str(ast.literal_eval(quoted)).split()
        if name == "find-links":
            # pip passes over a folder that is not there; uv ends at it.
            values = [value for value in values if "://" in value or Path(value).exists()]
        if name == "no-index":
            values = ["true"] if values and values[0].lower() in {"1", "true", "yes", "on"} else []
        if values:
            settings[_PIP_TO_UV[name]] = ("," if name == "find-links" else " ").join(values)
    if any(name in environment for name in _INDEX_VARIABLES):
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX"):
            settings.pop(name, None)
    return {name: value for name, value in settings.items() if name not in environment}


def pinned(package: str, lock: str) -> str:
    """Return the lines of the lock that pin one package, with its hashes."""
    found = re.search(rf"^{re.escape(package)}==[^\\\n]*(?:\\\n[^\\\n]*)*", lock, re.MULTILINE)
    if found is None:
        raise BootstrapError(f"{LOCK_FILE.name} does not pin {package}: compile it again (see README.md)")
    return found.group() + "\n"


def _run(what: str, command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a step, showing what it says but for its list of every single package.

    Raises:
        BootstrapError: it failed.
    """
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            if not line.startswith((" + ", " - ", " ~ ")):
                print(f"  {line}", end="", file=sys.stderr, flush=True)
    if process.returncode != 0:
        raise BootstrapError(
            f"{what} failed; the reason is above. Run the same command again to go on from there"
        )


def _pip_config(python: str) -> str:
    answer = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    return answer.stdout if answer.returncode == 0 else ""


def _make_venv_with_pip() -> None:
    _say("uv is not on PATH: making .venv with this Python and installing uv into it")
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        reason = (made.stdout + made.stderr).strip().splitlines()
        raise BootstrapError(
            f"Python {version} ({sys.executable}) cannot make a virtual environment"
            f" ({reason[0] if reason else 'no reason given'}): install its venv module (on Debian and Ubuntu:"
            f" apt install python{version}-venv), or put uv on PATH"
        )
    requirement = VENV / "uv.txt"
    requirement.write_text(pinned("uv", LOCK_FILE.read_text()))
    _run(
        "installing uv",
        [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
         "-r", str(requirement)],
    )  # fmt: skip


def _make() -> None:
    started = time.monotonic()
    lock = LOCK_FILE.read_bytes()
    packages = len(re.findall(rb"^[A-Za-z0-9]\S*==", lock, re.MULTILINE))
    moved = not (STAMP / "home").is_file() or (STAMP / "home").read_text() != f"{HOME}\n"
    if (STAMP / LOCK_FILE.name).is_file() and not moved:
        _say(f"requirements.lock has changed: bringing .venv up to date ({packages} packages)")
    else:
        _say(f"first use in this folder: making .venv ({packages} packages, 0.8 GB)")
    shutil.rmtree(STAMP, ignore_errors=True)

    uv = shutil.which("uv")
    if uv is None:
        if moved or not (VENV / "bin" / "uv").exists():
            _make_venv_with_pip()
        uv = str(VENV / "bin" / "uv")
        pip_config = _pip_config(str(PYTHON))
    else:
        if moved:
            _run("making .venv", [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)])
        pip_config = _pip_config(sys.executable)
    environment = {**os.environ, **uv_settings(pip_config, dict(os.environ))}
    # An active environment of the caller must not be mistaken for ours.
    environment.pop("VIRTUAL_ENV", None)
    _run(
        "installing requirements.lock",
        [uv, "pip", "sync", "--require-hashes", "--python", str(PYTHON), str(LOCK_FILE)],
        environment,
    )
    _add_project()
    STAMP.mkdir()
    (STAMP / LOCK_FILE.name).write_bytes(lock)
    (STAMP / "home").write_text(f"{HOME}\n")
    _say(f".venv is ready ({time.monotonic() - started:.0f} s)")


def _add_project() -> None:
    """Make the project importable, and `berth` a command, in the environment, without a build."""
    packages = next((VENV / "lib").glob("python3.*")) / "site-packages"
    (packages / "berth.pth").write_text(f"{HOME}\n")
    command = VENV / "bin" / "berth"
    command.unlink(missing_ok=True)
    command.symlink_to(HOME / "berth")


def main() -> int:
    """Make the environment unless another process just did; return the exit status."""
    try:
        VENV.mkdir(exist_ok=True)
        # The folder above .venv, which is locked here, is there before and after every `venv --clear`.
        folder = os.open(HOME, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another berth is making .venv: waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        if not is_made():
            _make()
    except BootstrapError as error:
        _say(str(error))
        return 1
    except OSError as error:
        _say(f"cannot make {VENV}: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted; run the same command again to go on")
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
