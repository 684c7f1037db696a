"""Pulls images from the sandbox's registry (OCI distribution protocol) and keeps them unpacked, by digest."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"

# A name as a registry stores it: an optional host, the repository, and a tag or a digest or both.
_REFERENCE = re.compile(
    r"^(?:(?P<host>[a-z0-9.-]+(?::\d+)?)/)?(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$"
)
_ECR_HOST = re.compile(r"^\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com$")
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class ImageError(RuntimeError):
    """An image cannot be used; the message says which and why."""


class ImageNotFoundError(ImageError):
    """The registry has no such repository, tag or digest."""


class ImagePullError(ImageError):
    """The registry refused, did not answer, or sent something else than it announced."""


@dataclass(frozen=True)
class Reference:
    """The parts of an image's name.

    Args:
        text: the whole, as written.
        host: the registry's host; None for a bare name.
        repository: the name in the registry.
        version: the digest where there is one, else the tag ("latest" by default).
    """

    text: str
    host: str | None
    repository: str
    version: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Take a name apart.

        Raises:
            ImageError: it is not an image's name.
        """
        match = _REFERENCE.match(text)
        if match is None:
            raise ImageError(
                f"image name {text!r} is not of the form [HOST/]REPOSITORY[:TAG][@sha256:DIGEST]"
            )
        host, repository = match["host"], match["repository"]
        if host is not None and not ("." in host or ":" in host or host == "localhost"):
            host, repository = None, f"{host}/{repository}"
        return cls(text, host, repository, match["digest"] or match["tag"] or "latest")


@dataclass(frozen=True)
class Image:
    """An image that was pulled and unpacked.

    Args:
        reference: the name it was pulled by.
        digest: its manifest's ("sha256:...").
        rootfs: the folder with its files.
        entrypoint, cmd, env, user, workdir, ports, labels: from its configuration; ports as "8000/tcp".
    """

    reference: str
    digest: str
    rootfs: Path
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: Mapping[str, str]
    user: str
    workdir: str
    ports: tuple[str, ...]
    labels: Mapping[str, str]

    @property
    def identity(self) -> str:
        """The name that it was pulled by, with the digest in the place of a tag."""
        head, slash, tail = self.reference.partition("@")[0].rpartition("/")
        return f"{head}{slash}{tail.partition(':')[0]}@{self.digest}"


def sha256(content: bytes) -> str:
    """Return the digest of some bytes in the registry's form."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Registry:
    """A client of the sandbox's registry.

    Args:
        url: where it answers ("http://127.0.0.1:4566"); names with an ECR host are looked up there.
        authorization: "AWS:<token>" as ECR gives it out, Base64; None asks ECR at the same address for one,
            with the credentials of the environment.
        region: whose ECR is asked.
    """

    def __init__(self, url: str, *, authorization: str | None = None, region: str = "us-east-1") -> None:
        self.url = url.rstrip("/")
        self._authorization = authorization
        self._region = region
        self._http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def repository(self, reference: Reference) -> str:
        """Return the repository's name in this registry.

        Raises:
            ImagePullError: the name is one of another registry, which the sandbox does not reach.
        """
        own = self.url.partition("://")[2]
        if reference.host is None or reference.host == own or _ECR_HOST.match(reference.host):
            return reference.repository
        raise ImagePullError(
            f"{reference.text}: the sandbox reaches only its own registry (ECR), not {reference.host}"
        )

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request with the registry's authorization.

        Args:
            method: GET, HEAD, POST, PATCH or PUT.
            path: below the registry's URL.
            options: httpx's own, and `renew`: whether a 401 is asked again once, with a new token (default
            True).

        Raises:
            ImagePullError: no answer.
        """
        headers = dict(options.pop("headers", {}))
        renew = options.pop("renew", True)
        for attempt in (1, 2):
            headers["Authorization"] = f"Basic {self._token(renew=attempt == 2)}"
            try:
                response = self._http.request(method, path, headers=headers, **options)
            except httpx.HTTPError as error:
                raise ImagePullError(f"the registry at {self.url} does not answer: {error}") from error
            if response.status_code != 401 or not renew:
                break
        return response

    def blob(self, repository: str, digest: str) -> bytes:
        """Fetch a blob and check its digest."""
        response = self.request("GET", f"/v2/{repository}/blobs/{digest}", follow_redirects=True)
        refuse(response, f"{repository}@{digest}")
        if sha256(response.content) != digest:
            raise ImagePullError(f"{repository}: the blob {digest} arrived damaged (its digest differs)")
        return response.content

    def manifest(self, repository: str, version: str) -> tuple[str, bytes]:
        """Fetch a manifest by tag or digest; return its digest and its bytes."""
        response = self.request(
            "GET",
            f"/v2/{repository}/manifests/{version}",
            headers={"Accept": f"{MANIFEST_TYPE}, {_DOCKER_MANIFEST_TYPE}"},
        )
        refuse(response, f"{repository}{'@' if ':' in version else ':'}{version}")
        digest = sha256(response.content)
        if ":" in version and digest != version:
            raise ImagePullError(f"{repository}: the manifest {version} arrived damaged (its digest differs)")
        return digest, response.content

    def push_blob(self, repository: str, digest: str, content: bytes) -> bool:
        """Upload a blob unless it is there; say whether it was."""
        path = f"/v2/{repository}/blobs/{digest}"
        if self.request("HEAD", path, renew=False).is_success:
            return True
        started = self.request("POST", f"/v2/{repository}/blobs/uploads/", renew=False)
        refuse(started, repository)
        location = httpx.URL(started.headers["Location"])
        sent = self.request(
            "PATCH",
            str(location),
            headers={"Content-Type": "application/octet-stream"},
            content=content,
            renew=False,
        )
        refuse(sent, repository)
        location = httpx.URL(sent.headers.get("Location", str(location)))
        ended = self.request("PUT", str(location.copy_add_param("digest", digest)), renew=False)
        refuse(ended, repository)
        return False

    def _token(self, *, renew: bool) -> str:
        if self._authorization is None or renew:
            import boto3  # noqa: PLC0415  # a second to import, and only a pull needs it

            client = boto3.Session().client("ecr", region_name=self._region, endpoint_url=self.url)
            try:
                data = client.get_authorization_token()["authorizationData"][0]
            except Exception as error:  # botocore's errors share no base class with a message of one line
                raise ImagePullError(f"the registry at {self.url} gives no token: {error}") from error
            self._authorization = str(data["authorizationToken"])
        return self._authorization


def refuse(response: httpx.Response, what: str) -> None:
    """Raise what a registry's error response says, in its own words.

    Raises:
        ImageNotFoundError: 404.
        ImagePullError: any other error status.
    """
    if response.is_success:
        return
    words = response.text.strip()
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError):
        error = response.json()["errors"][0]
        words = f"{error['code']}: {error['message']}"
    kind = ImageNotFoundError if response.status_code == 404 else ImagePullError
    raise kind(f"{what}: {words or response.reason_phrase} (HTTP {response.status_code})")


class ImageStore:
    """Unpacked images on this machine, one folder for each digest; safe for several processes at once.

    Args:
        directory: where they are kept.
        registry_url: the sandbox's registry; `BERTH_SANDBOX_REGISTRY` by default.
        region: whose ECR gives out the token.
    """

    def __init__(
        self, directory: Path, registry_url: str | None = None, *, region: str = "us-east-1"
    ) -> None:
        url = registry_url or os.environ.get("BERTH_SANDBOX_REGISTRY")
        if not url:
            raise ImageError("no registry: give its URL, or set BERTH_SANDBOX_REGISTRY")
        self.directory = directory
        self._registry = Registry(url, region=region)

    def pull(self, reference: str) -> Image:
        """Fetch an image unless its digest is here already, unpack it, and return it.

        Args:
            reference: [HOST/]REPOSITORY with :TAG, @sha256:DIGEST or both (then the digest counts).

        Raises:
            ImageNotFoundError: the registry has no such repository, tag or digest.
            ImagePullError: the registry refused or did not answer, or a digest is wrong.
            ImageError: the reference is no image's name, or the image's contents are not usable.
        """
        parsed = Reference.parse(reference)
        repository = self._registry.repository(parsed)
        folder = self._folder(parsed.version) if ":" in parsed.version else None
        if folder is None or not folder.exists():
            digest, manifest = self._registry.manifest(repository, parsed.version)
            folder = self._folder(digest)
            self._unpack(repository, manifest, folder)
        return _load(reference, folder)

    def _folder(self, digest: str) -> Path:
        return self.directory / digest.replace(":", "-")

    def _unpack(self, repository: str, manifest: bytes, folder: Path) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if folder.exists():
                return
            try:
                content = json.loads(manifest)
                layers = [(layer["digest"], layer["mediaType"]) for layer in content["layers"]]
                config = self._registry.blob(repository, content["config"]["digest"])
            except (ValueError, KeyError, TypeError) as error:
                raise ImageError(
                    f"{repository}: its manifest is not one of a single image: {error!r}"
                ) from error
            work = Path(tempfile.mkdtemp(prefix="pull-", dir=self.directory))
            try:
                (work / "config.json").write_bytes(config)
                (work / "manifest.json").write_bytes(manifest)
                (work / "rootfs").mkdir()
                for digest, media_type in layers:
                    archive = work / "layer"
                    archive.write_bytes(self._registry.blob(repository, digest))
                    extract_layer(archive, work / "rootfs", media_type)
                    archive.unlink()
                work.rename(folder)  # whole or not at all
            finally:
                shutil.rmtree(work, ignore_errors=True)


def extract_layer(archive: Path, rootfs: Path, media_type: str = LAYER_TYPE) -> None:
    """Unpack one layer over what is there, with its whiteouts.

    Raises:
        ImageError: it is no tar archive, or one of its members would be written outside.
    """
    if not media_type.endswith(("tar+gzip", "tar.gzip", "tar")):
        raise ImageError(f"a layer of type {media_type} is not supported (tar and tar+gzip are)")
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name)
                if name.name == _OPAQUE:
                    _remove_contents(_contained(rootfs, name.parent))
                elif name.name.startswith(_WHITEOUT):
                    _remove(_contained(rootfs, name.parent) / name.name.removeprefix(_WHITEOUT))
                else:
                    tar.extract(member, rootfs, filter="data")
    except tarfile.TarError as error:
        raise ImageError(f"a layer cannot be unpacked: {error}") from error


def _contained(rootfs: Path, relative: Path) -> Path:
    path = (rootfs / relative).resolve()
    if not path.is_relative_to(rootfs.resolve()):
        raise ImageError(f"a layer deletes outside of the image: {relative}")
    return path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_contents(folder: Path) -> None:
    if folder.is_dir():
        for child in folder.iterdir():
            _remove(child)


def _load(reference: str, folder: Path) -> Image:
    config = json.loads((folder / "config.json").read_bytes()).get("config") or {}
    env = dict(part.partition("=")[::2] for part in config.get("Env") or ())
    return Image(
        reference=reference,
        digest=folder.name.replace("-", ":", 1),
        rootfs=folder / "rootfs",
        entrypoint=tuple(config.get("Entrypoint") or ()),
        cmd=tuple(config.get("Cmd") or ()),
        env=env,
        user=config.get("User") or "",
        workdir=config.get("WorkingDir") or "/",
        ports=tuple(config.get("ExposedPorts") or ()),
        labels=config.get("Labels") or {},
    )


def encode_authorization(user: str, password: str) -> str:
    """Return what goes after "Basic " for a user and a password."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()
