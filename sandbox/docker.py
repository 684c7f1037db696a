"""A `docker` command for machines without a Docker engine: login, build, push, images and inspect.

It is what CodeBuild's buildspec finds on PATH in the sandbox. It keeps what it builds, and the registry's
token, in the folder that DOCKER_CONFIG names (in a build: its home's .docker), and refuses by name what it
does not support.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sandbox.builder import BuildError, Built, build
from sandbox.images import (
    MANIFEST_TYPE,
    ImageError,
    Reference,
    Registry,
    encode_authorization,
    refuse,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEMPLATES = "{{.Id}}, {{index .RepoDigests 0}}, {{json .Config}}"


class DockerError(RuntimeError):
    """A command cannot be done; the message is the one line that is shown."""


def write_command(directory: Path) -> Path:
    """Write an executable `docker` into a folder meant for PATH, and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "docker"
    project = Path(__file__).resolve().parent.parent
    path.write_text(
        "#!/bin/sh\n"
        f'export PYTHONPATH="{project}${{PYTHONPATH:+:$PYTHONPATH}}"\n'
        f'exec "{sys.executable}" -m sandbox.docker "$@"\n'
    )
    path.chmod(0o755)
    return path


class _State:
    """What earlier commands left: the login, the built images and their names."""

    def __init__(self) -> None:
        folder = os.environ.get("DOCKER_CONFIG")
        if not folder and "CODEBUILD_BUILD_ID" in os.environ:
            folder = str(Path.home() / ".docker")  # a build's home is its own; a person's is left alone
        if not folder:
            raise DockerError("set DOCKER_CONFIG to a folder: logins and images are kept there")
        self._folder = Path(folder)

    def login(self, host: str, authorization: str) -> None:
        path = self._folder / "config.json"
        config = self._read(path)
        config.setdefault("auths", {})[host] = {"auth": authorization}
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
            json.dump(config, file)

    def logout(self, host: str) -> None:
        path = self._folder / "config.json"
        config = self._read(path)
        if config.get("auths", {}).pop(host, None) is not None:
            path.write_text(json.dumps(config))

    def authorization(self, host: str) -> str | None:
        entry = self._read(self._folder / "config.json").get("auths", {}).get(host)
        return entry["auth"] if entry else None

    def names(self) -> dict[str, str]:
        """Return the digest of each tagged name."""
        return self._read(self._folder / "images" / "names.json")

    def pushed(self) -> dict[str, str]:
        """Return the digest of each name that was pushed."""
        return self._read(self._folder / "images" / "pushed.json")

    def save(self, built: Built, names: Sequence[str]) -> None:
        blobs = self._folder / "images" / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        for digest, content in {**built.blobs, built.digest: built.manifest}.items():
            (blobs / digest.replace(":", "-")).write_bytes(content)
        self._write("names.json", {**self.names(), **dict.fromkeys(names, built.digest)})

    def mark_pushed(self, name: str, digest: str) -> None:
        self._write("pushed.json", {**self.pushed(), name: digest})

    def load(self, name: str) -> Built:
        digest = self.names().get(_full(name))
        if digest is None:
            raise DockerError(f"Error: No such image: {name}")
        blobs = self._folder / "images" / "blobs"
        manifest = (blobs / digest.replace(":", "-")).read_bytes()
        parsed = json.loads(manifest)
        needed = [parsed["config"]["digest"], *(layer["digest"] for layer in parsed["layers"])]
        return Built(
            digest, manifest, {blob: (blobs / blob.replace(":", "-")).read_bytes() for blob in needed}
        )

    def _write(self, file: str, content: dict[str, str]) -> None:
        (self._folder / "images" / file).write_text(json.dumps(content, indent=1, sort_keys=True))

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return content


def _full(name: str) -> str:
    reference = Reference.parse(name)
    return name if name.endswith(reference.version) else f"{name}:{reference.version}"


def _registry(authorization: str) -> Registry:
    url = os.environ.get("BERTH_SANDBOX_REGISTRY")
    if not url:
        raise DockerError("set BERTH_SANDBOX_REGISTRY to the URL of the sandbox's registry")
    return Registry(url, authorization=authorization)


def _login(options: argparse.Namespace) -> None:
    if not options.password_stdin:
        raise DockerError("give the password by --password-stdin: a command line is seen by every user")
    password = sys.stdin.read().strip()
    if not password:
        raise DockerError("Error: password is empty")
    authorization = encode_authorization(options.username, password)
    response = _registry(authorization).request("GET", "/v2/", renew=False)
    if not response.is_success:
        raise DockerError(
            f"Error response from daemon: login attempt to {options.server} failed with status: "
            f"{response.status_code} {response.reason_phrase}"
        )
    _State().login(options.server, authorization)
    print("Login Succeeded")


def _logout(options: argparse.Namespace) -> None:
    _State().logout(options.server)
    print(f"Removing login credentials for {options.server}")


def _build(options: argparse.Namespace) -> None:
    if options.platform not in (None, "linux/amd64"):
        raise DockerError(f"--platform {options.platform} is not supported (linux/amd64 is)")
    for flag in ("provenance", "sbom"):
        if getattr(options, flag) not in (None, "false"):
            raise DockerError(f"--{flag}={getattr(options, flag)} is not supported (false is)")
    context = Path(options.context)
    if not context.is_dir():
        raise DockerError(f"the build's context {options.context} is not a folder")
    names = [_full(name) for name in options.tag]
    state = _State()
    built = build(
        context,
        Path(options.file) if options.file else context / "Dockerfile",
        report=lambda line: print(line, file=sys.stderr, flush=True),
        build_args=_pairs(options.build_arg, environment=True),
        labels=_pairs(options.label),
    )
    state.save(built, names)
    print(f"built {built.digest}", file=sys.stderr)
    for name in names:
        print(f"naming to {name}", file=sys.stderr)


def _pairs(values: Sequence[str], *, environment: bool = False) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values:
        name, given, text = value.partition("=")
        if given:
            pairs[name] = text
        elif environment and name in os.environ:
            pairs[name] = os.environ[name]
    return pairs


def _push(options: argparse.Namespace) -> None:
    state = _State()
    reference = Reference.parse(options.name)
    built = state.load(options.name)
    authorization = state.authorization(reference.host or "")
    if authorization is None:
        raise DockerError(f"no basic auth credentials for {reference.host}: run docker login first")
    print(f"The push refers to repository [{reference.host}/{reference.repository}]")
    registry = _registry(authorization)
    repository = registry.repository(reference)
    for digest, blob in built.blobs.items():
        known = registry.push_blob(repository, digest, blob)
        print(f"{digest[7:19]}: {'Layer already exists' if known else 'Pushed'}", flush=True)
    response = registry.request(
        "PUT",
        f"/v2/{repository}/manifests/{reference.version}",
        headers={"Content-Type": MANIFEST_TYPE},
        content=built.manifest,
        renew=False,
    )
    refuse(response, options.name)
    state.mark_pushed(f"{reference.host}/{reference.repository}", built.digest)
    print(f"{reference.version}: digest: {built.digest} size: {len(built.manifest)}")


def _images(_options: argparse.Namespace) -> None:
    print(f"{'REPOSITORY':<60} {'TAG':<16} {'IMAGE ID':<14} SIZE")
    state = _State()
    for name in sorted(state.names()):
        built = state.load(name)
        repository, _, tag = name.rpartition(":")
        identity = json.loads(built.manifest)["config"]["digest"][7:19]
        print(f"{repository:<60} {tag:<16} {identity:<14} {sum(map(len, built.blobs.values()))}B")


def _inspect(options: argparse.Namespace) -> None:
    state = _State()
    built = state.load(options.name)
    reference = Reference.parse(options.name)
    repository = f"{reference.host}/{reference.repository}" if reference.host else reference.repository
    pushed = state.pushed().get(repository)
    description = {
        "Id": json.loads(built.manifest)["config"]["digest"],
        "RepoTags": [name for name, digest in sorted(state.names().items()) if digest == built.digest],
        "RepoDigests": [f"{repository}@{pushed}"] if pushed == built.digest else [],
        "Architecture": "amd64",
        "Os": "linux",
        "Config": built.config["config"],
        "RootFS": {"Type": "layers", "Layers": built.config["rootfs"]["diff_ids"]},
    }
    template = options.format
    if template is None:
        print(json.dumps([description], indent=4))
    elif template == "{{.Id}}":
        print(description["Id"])
    elif template == "{{index .RepoDigests 0}}":
        if not description["RepoDigests"]:
            raise DockerError(f"{options.name} was not pushed: it has no digest in a repository")
        print(description["RepoDigests"][0])
    elif template == "{{json .Config}}":
        print(json.dumps(description["Config"]))
    else:
        raise DockerError(f"--format {shlex.quote(template)} is not supported (supported: {_TEMPLATES})")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DockerError(
            f"{self.prog}: {message} (the sandbox's docker supports a part of Docker's command)"
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="docker", allow_abbrev=False)
    parser.add_argument(
        "--version", action="version", version="Docker version 0, the sandbox's, without an engine"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, action: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, allow_abbrev=False)
        sub.set_defaults(action=action)
        return sub

    login = command("login", _login)
    login.add_argument("-u", "--username", required=True)
    login.add_argument("--password-stdin", action="store_true")
    login.add_argument("server")

    building = command("build", _build)
    building.add_argument("-f", "--file")
    building.add_argument("-t", "--tag", action="append", default=[])
    building.add_argument("--build-arg", action="append", default=[])
    building.add_argument("--label", action="append", default=[])
    building.add_argument("--platform")
    building.add_argument("--provenance")
    building.add_argument("--sbom")
    building.add_argument("--secret", action="append", default=[])
    # About a cache and a display that are not here.
    building.add_argument("--pull", action="store_true")
    building.add_argument("--no-cache", action="store_true")
    building.add_argument("--progress")
    building.add_argument("context")

    logout = command("logout", _logout)
    logout.add_argument("server")

    push = command("push", _push)
    push.add_argument("-q", "--quiet", action="store_true")
    push.add_argument("name")

    command("images", _images)

    inspect = command("inspect", _inspect)
    inspect.add_argument("-f", "--format")
    inspect.add_argument("name")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; return its exit status."""
    arguments = list(arguments)
    if arguments[:1] in (["image"], ["buildx"]):  # `docker image push`, `docker buildx build`
        arguments = arguments[1:]
    try:
        options = _parser().parse_args(arguments)
        options.action(options)
    except (DockerError, BuildError, ImageError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
