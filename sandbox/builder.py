"""Builds an OCI image from a Dockerfile without a Docker engine and without its base image's files.

The same input gives the same digest on every machine: no times, no user names, sorted files, no compression.
The base image itself (gigabytes that a sandbox has no use for) is not pulled: its configuration, as far as it
matters, is in `BASES`, and RUN lines, which would need its programs, are not executed.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sandbox.dockerfile import DockerfileError, Instruction, glob_expression, ignore_filter, parse
from sandbox.images import CONFIG_TYPE, MANIFEST_TYPE, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CREATED = "1970-01-01T00:00:00Z"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What the base images that a Dockerfile may name say about themselves, by repository.
BASES: Mapping[str, Mapping[str, Any]] = {
    "scratch": {},
    "vllm/vllm-openai": {
        "Env": {"PATH": _PATH},
        "Entrypoint": ["vllm", "serve"],
        "WorkingDir": "/vllm-workspace",
    },
}


class BuildError(RuntimeError):
    """An image cannot be built; the message says which line of what."""


@dataclass(frozen=True)
class Built:
    """A built image.

    Args:
        digest: its manifest's.
        manifest: the manifest's bytes.
        blobs: configuration and layers, by digest.
    """

    digest: str
    manifest: bytes
    blobs: Mapping[str, bytes]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the manifest names."""
        parsed: dict[str, Any] = json.loads(self.blobs[json.loads(self.manifest)["config"]["digest"]])
        return parsed


@dataclass
class _State:
    """The image as it grows from instruction to instruction."""

    context: Path
    files: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, dict[str, str]] = field(default_factory=dict)
    user: str = ""
    workdir: str = "/"
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    other: dict[str, Any] = field(default_factory=dict)
    layers: list[bytes] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)


def build(
    context: Path,
    dockerfile: Path,
    *,
    report: Callable[[str], None],
    build_args: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Built:
    """Build an image for linux/amd64.

    Args:
        context: the folder that COPY copies from, less what its .dockerignore leaves out.
        dockerfile: the Dockerfile.
        report: takes one line for each step.
        build_args: values for the Dockerfile's ARGs.
        labels: set over the Dockerfile's own.

    Raises:
        BuildError: the Dockerfile is wrong or uses what is not supported, or a file is not there.
    """
    try:
        text = dockerfile.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{dockerfile} cannot be read: {error}") from error
    try:
        # Only the base is known after the first parse, and with it the variables that later lines see.
        base = _base(parse(text, build_args))
        instructions = parse(text, build_args, base.get("Env", {}))
        state = _State(context, _context_files(context))
        state.env = dict(base.get("Env", {}))
        state.entrypoint = base.get("Entrypoint")
        state.workdir = base.get("WorkingDir", "/")
        for number, instruction in enumerate(instructions, 1):
            report(f"[{number}/{len(instructions)}] {instruction.keyword} {instruction.value}")
            _apply(state, instruction, report)
    except DockerfileError as error:
        raise BuildError(f"{dockerfile}: {error}") from error
    state.labels.update(labels or {})
    return _finish(state)


def _base(instructions: Sequence[Instruction]) -> Mapping[str, Any]:
    line = next(instruction for instruction in instructions if instruction.keyword == "FROM")
    name = line.value.split()[0]
    platform = line.flags.get("platform", "linux/amd64")
    if platform != "linux/amd64":
        raise DockerfileError(f"line {line.line}: the platform {platform} is not supported (linux/amd64 is)")
    repository = name.partition("@")[0].rpartition("/")
    short = f"{repository[0]}{repository[1]}{repository[2].partition(':')[0]}".removeprefix("docker.io/")
    if short not in BASES:
        raise DockerfileError(
            f"line {line.line}: the base image {name} is not known to the sandbox, which pulls none "
            f"(known: {', '.join(sorted(BASES))})"
        )
    return BASES[short]


def _apply(  # noqa: PLR0912  # one branch for each instruction reads best in one place
    state: _State, instruction: Instruction, report: Callable[[str], None]
) -> None:
    keyword, value = instruction.keyword, instruction.value
    layer: bytes | None = None
    if keyword == "ENV":
        state.env.update(instruction.pairs())
    elif keyword == "LABEL":
        state.labels.update(instruction.pairs())
    elif keyword == "USER":
        state.user = value
    elif keyword == "WORKDIR":
        state.workdir = _absolute(state, value)
        layer = _archive({state.workdir.strip("/"): None}, 0, 0) if state.workdir != "/" else None
    elif keyword == "EXPOSE":
        state.ports.update({port if "/" in port else f"{port}/tcp": {} for port in value.split()})
    elif keyword == "ENTRYPOINT":
        state.entrypoint = _command(state, instruction)
        state.cmd = None  # it was meant for the entrypoint that is replaced
    elif keyword == "CMD":
        state.cmd = _command(state, instruction)
    elif keyword == "SHELL":
        state.shell = instruction.exec_form() or _fail(instruction, "wants a JSON array")
    elif keyword == "STOPSIGNAL":
        state.other["StopSignal"] = value
    elif keyword == "HEALTHCHECK":
        state.other["Healthcheck"] = _health_check(instruction)
    elif keyword == "COPY":
        layer = _copy(state, instruction)
    elif keyword == "RUN":
        report("  not executed: the sandbox has no base image to run it in")
    entry: dict[str, Any] = {"created": _CREATED, "created_by": f"{keyword} {value}"}
    if layer is None:
        entry["empty_layer"] = True
    else:
        state.layers.append(layer)
    state.history.append(entry)


def _fail(instruction: Instruction, words: str) -> Any:
    raise DockerfileError(f"line {instruction.line}: {instruction.keyword} {words}")


def _command(state: _State, instruction: Instruction) -> list[str]:
    array = instruction.exec_form()
    return array if array is not None else [*state.shell, instruction.value]


def _health_check(instruction: Instruction) -> dict[str, Any]:
    keyword, _, rest = instruction.value.partition(" ")
    if keyword.upper() == "NONE":
        return {"Test": ["NONE"]}
    if keyword.upper() != "CMD":
        _fail(instruction, "wants CMD or NONE")
    array = Instruction("CMD", {}, rest.strip(), instruction.line).exec_form()
    check: dict[str, Any] = {"Test": ["CMD", *array] if array else ["CMD-SHELL", rest.strip()]}
    names = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod"}
    names["start-interval"] = "StartInterval"
    for flag, text in instruction.flags.items():
        if flag == "retries":
            check["Retries"] = (
                int(text) if text.isdecimal() else _fail(instruction, "--retries wants a number")
            )
        else:
            check[names[flag]] = _nanoseconds(instruction, text)
    return check


def _nanoseconds(instruction: Instruction, text: str) -> int:
    parts = re.findall(r"(\d+)(ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        _fail(instruction, f"wants a duration such as 30s, not {text!r}")
    units = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    return sum(int(number) * units[unit] for number, unit in parts)


def _absolute(state: _State, path: str) -> str:
    joined = PurePosixPath(state.workdir) / path
    parts: list[str] = []
    for part in joined.parts[1:]:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/" + "/".join(parts)


def _context_files(context: Path) -> list[str]:
    """List the files of the context that its .dockerignore leaves in."""
    ignore = context / ".dockerignore"
    ignored = ignore_filter(ignore.read_text(encoding="utf-8") if ignore.is_file() else "")
    names = (path.relative_to(context).as_posix() for path in context.rglob("*") if not path.is_dir())
    return sorted(name for name in names if not ignored(name))


def _copy(state: _State, instruction: Instruction) -> bytes:
    words = instruction.words()
    if len(words) < 2:
        _fail(instruction, "wants at least one source and a destination")
    *sources, target = words
    into_folder = target.endswith("/") or target in (".", "..") or len(sources) > 1
    destination = _absolute(state, target)
    members: dict[str, Path | None] = {}
    for source in sources:
        cleaned = source.lstrip("/").rstrip("/").removeprefix("./") or "."
        found = _matches(state.files, cleaned)
        if not found:
            _fail(
                instruction, f"{source}: no such file in the build's context (or .dockerignore leaves it out)"
            )
        for file, below in found.items():
            # A folder's contents go into the destination; a file goes to it, or into it if that is a folder.
            name = below or (PurePosixPath(file).name if into_folder or len(found) > 1 else "")
            members[f"{destination}/{name}".strip("/")] = state.context / file
    user, group = _owner(instruction)
    return _archive(members, user, group, _mode(instruction))


def _matches(files: Sequence[str], pattern: str) -> dict[str, str]:
    """Return the files that a COPY source names, each with its path below the folder that was named."""
    if pattern == ".":
        return {file: file for file in files}
    expression = re.compile(f"(?:{glob_expression(pattern)})(?:/(?P<below>.*))?$")
    return {file: match["below"] or "" for file in files if (match := expression.match(file))}


def _owner(instruction: Instruction) -> tuple[int, int]:
    text = instruction.flags.get("chown", "0:0")
    user, _, group = text.partition(":")
    if not (user.isdecimal() and (group or user).isdecimal()):
        _fail(instruction, f"--chown={text}: names need the base image's user list; give numbers")
    return int(user), int(group or user)


def _mode(instruction: Instruction) -> int | None:
    text = instruction.flags.get("chmod")
    if text is None:
        return None
    if not re.fullmatch(r"0?[0-7]{3,4}", text):
        _fail(instruction, f"--chmod={text} is not supported; give an octal mode such as 0755")
    return int(text, 8)


def _archive(members: Mapping[str, Path | None], user: int, group: int, mode: int | None = None) -> bytes:
    """Make a layer: the members (None for a folder) with the folders above them, in order, without times."""
    folders: dict[str, Path | None] = {}
    for name in members:
        for parent in PurePosixPath(name).parents:
            if str(parent) != "." and str(parent) not in members:
                folders[str(parent)] = None
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in sorted({**folders, **members}.items()):
            entry = tarfile.TarInfo(name)
            if path is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
                continue
            entry.uid, entry.gid = user, group
            if path.is_symlink():
                entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, str(path.readlink())
                tar.addfile(entry)
                continue
            content = path.read_bytes()
            # Of the file's own mode only what Git keeps: checkouts differ in the rest.
            executable = path.stat().st_mode & 0o100
            entry.mode = mode if mode is not None else (0o755 if executable else 0o644)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _finish(state: _State) -> Built:
    config: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in state.env.items()],
        "WorkingDir": state.workdir,
        **state.other,
    }
    optional = {
        "User": state.user,
        "Entrypoint": state.entrypoint,
        "Cmd": state.cmd,
        "ExposedPorts": state.ports,
        "Labels": state.labels,
    }
    config.update({name: value for name, value in optional.items() if value})
    image = {
        "architecture": "amd64",
        "os": "linux",
        "created": _CREATED,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in state.layers]},
        "history": state.history,
    }
    encoded = json.dumps(image, sort_keys=True, separators=(",", ":")).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": sha256(encoded), "size": len(encoded)},
        "layers": [
            {"mediaType": LAYER_TYPE, "digest": sha256(layer), "size": len(layer)} for layer in state.layers
        ],
    }
    content = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    return Built(sha256(content), content, {sha256(blob): blob for blob in (encoded, *state.layers)})
