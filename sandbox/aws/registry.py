"""ECR's image registry: the OCI distribution protocol under `/v2/`, over the images of moto's ECR.

The protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md. Manifests are images in
moto, so that DescribeImages and the others see them; layers are files.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from moto.core.responses import ActionResult
from moto.ecr.models import ECRBackend, Image, ecr_backends
from moto.ecr.responses import ECRResponse
from werkzeug.exceptions import HTTPException
from werkzeug.utils import send_file
from werkzeug.wrappers import Response

from sandbox.aws.cloud import ACCOUNT_ID, REGION, Cloud
from sandbox.aws.guards import after, replace
from sandbox.aws.server import read_body

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sandbox.aws.scans import Scans

_TOKEN_SECONDS = 12 * 3600
_MANIFEST_BYTES = 4 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = r"(?P<name>[a-z0-9]+(?:[._/-][a-z0-9]+)*)"
_INDEX_TYPES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_MANIFEST_TYPES = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    *_INDEX_TYPES,
}


class RegistryError(Exception):
    """An answer of the registry that says no.

    Args:
        status: the HTTP status.
        code: the protocol's code.
        message: ECR's words.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Registry:
    """The registry of an account, as a WSGI application.

    Args:
        cloud: the account.
        secret: what the tokens of GetAuthorizationToken are made with.
        scans: what scans images when they are pushed.
    """

    def __init__(self, cloud: Cloud, secret: str, scans: Scans) -> None:
        self._cloud = cloud
        self._scans = scans
        self._secret = secret.encode()
        self._directory = cloud.directory / "registry"
        cloud.on_event("ecr.image_put", self._put_image)
        replace(ECRResponse, "get_authorization_token", lambda _: ActionResult(self._authorization()))

        @after(ECRBackend, "delete_repository")
        def _layers_go(_: Any, repository: Any, *_args: Any, **_kwargs: Any) -> None:
            shutil.rmtree(self._directory / repository.name, ignore_errors=True)

        routes = (
            (rf"/v2/{_NAME}/blobs/uploads/?", {"POST": self._start_upload}),
            (
                rf"/v2/{_NAME}/blobs/uploads/(?P<upload>[0-9a-f-]+)",
                {
                    "GET": self._upload_status,
                    "PATCH": self._append,
                    "PUT": self._finish_upload,
                    "DELETE": self._cancel_upload,
                },
            ),
            (rf"/v2/{_NAME}/blobs/(?P<digest>[^/]+)", {"GET": self._get_blob, "HEAD": self._get_blob}),
            (
                rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)",
                {"GET": self._get_manifest, "HEAD": self._get_manifest, "PUT": self._put_manifest},
            ),
            (rf"/v2/{_NAME}/tags/list", {"GET": self._list_tags}),
        )
        self._routes = [(re.compile(pattern), methods) for pattern, methods in routes]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        try:
            self._authenticate(environ.get("HTTP_AUTHORIZATION", ""))
            response = self._route(environ)
        except RegistryError as error:
            for _ in read_body(environ):
                pass  # the connection stays open: what the client still sends must not be taken for a request
            body = {"errors": [{"code": error.code, "message": error.message}]}
            response = Response(json.dumps(body), error.status, content_type="application/json")
            if error.status == 401:
                realm = f'Basic realm="{self._cloud.addresses.endpoint}/",service="ecr.amazonaws.com"'
                response.headers["WWW-Authenticate"] = realm
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        answer: Iterable[bytes] = response(environ, start_response)
        return answer

    def _route(self, environ: dict[str, Any]) -> Response:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path in {"/v2", "/v2/"}:
            return Response("{}", content_type="application/json")
        for pattern, methods in self._routes:
            if found := pattern.fullmatch(path):
                if method not in methods:
                    raise RegistryError(405, "UNSUPPORTED", f"The operation {method} is unsupported.")
                parts = found.groupdict()
                self._repository(parts["name"])
                response: Response = methods[method](environ, **parts)
                return response
        raise RegistryError(404, "NAME_INVALID", f"There is no {path}.")

    # Authorization

    def _sign(self, expires: str) -> str:
        return hmac.digest(self._secret, expires.encode(), "sha256").hex()

    def _authorization(self) -> dict[str, Any]:
        expires = int(time.time()) + _TOKEN_SECONDS
        password = f"{expires}.{self._sign(str(expires))}"
        return {
            "authorizationData": [
                {
                    "authorizationToken": base64.b64encode(f"AWS:{password}".encode()).decode(),
                    "expiresAt": expires,
                    "proxyEndpoint": self._cloud.addresses.endpoint,
                }
            ]
        }

    def _authenticate(self, header: str) -> None:
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic":
            raise RegistryError(401, "UNAUTHORIZED", "Not Authorized")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError as error:
            raise RegistryError(401, "UNAUTHORIZED", "Not Authorized") from error
        expires, _, signature = password.partition(".")
        if user != "AWS" or not hmac.compare_digest(signature.encode(), self._sign(expires).encode()):
            raise RegistryError(401, "UNAUTHORIZED", "Not Authorized")
        if int(expires) < time.time():
            raise RegistryError(
                403, "DENIED", "Your authorization token has expired. Reauthenticate and try again."
            )

    # Repositories and their files

    def _repository(self, name: str) -> Any:
        with self._cloud.lock:
            for region in [REGION, *ecr_backends[ACCOUNT_ID]]:
                repository = ecr_backends[ACCOUNT_ID][region].repositories.get(name)
                if repository is not None:
                    return repository
        raise RegistryError(
            404,
            "NAME_UNKNOWN",
            f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT_ID}'",
        )

    def _blob(self, name: str, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise RegistryError(400, "DIGEST_INVALID", f"Invalid digest: {digest}")
        return self._directory / name / "_blobs" / digest.removeprefix("sha256:")

    def _upload(self, name: str, upload: str) -> Path:
        path = self._directory / name / "_uploads" / upload
        if not path.exists():
            raise RegistryError(404, "BLOB_UPLOAD_UNKNOWN", f"There is no upload {upload}")
        return path

    # Layers

    def _start_upload(self, environ: dict[str, Any], name: str) -> Response:
        query = _query(environ)
        if (mount := query.get("mount")) and (source := query.get("from")):
            origin = self._blob(source, mount)
            if origin.exists():
                target = self._blob(name, mount)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.hardlink_to(origin)
                return _created(f"/v2/{name}/blobs/{mount}", mount)
        upload = str(uuid.uuid4())
        path = self._directory / name / "_uploads" / upload
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if "digest" in query:
            return self._finish_upload(environ, name, upload)
        return self._uploading(name, upload, path, 202)

    def _uploading(self, name: str, upload: str, path: Path, status: int) -> Response:
        return Response(
            status=status,
            headers={
                "Location": f"/v2/{name}/blobs/uploads/{upload}",
                "Range": f"0-{max(path.stat().st_size - 1, 0)}",
                "Docker-Upload-UUID": upload,
            },
        )

    def _upload_status(self, _: dict[str, Any], name: str, upload: str) -> Response:
        return self._uploading(name, upload, self._upload(name, upload), 204)

    def _append(self, environ: dict[str, Any], name: str, upload: str) -> Response:
        path = self._upload(name, upload)
        sent = environ.get("HTTP_CONTENT_RANGE", "").partition("-")[0]
        if sent and int(sent) != path.stat().st_size:
            raise RegistryError(416, "BLOB_UPLOAD_INVALID", "The part does not follow the last one")
        with path.open("ab") as file:
            for chunk in read_body(environ):
                file.write(chunk)
        return self._uploading(name, upload, path, 202)

    def _finish_upload(self, environ: dict[str, Any], name: str, upload: str) -> Response:
        path = self._upload(name, upload)
        digest = _query(environ).get("digest", "")
        target = self._blob(name, digest)
        with path.open("ab") as file:
            for chunk in read_body(environ):
                file.write(chunk)
        with path.open("rb") as file:
            actual = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if actual != digest:
            path.unlink()
            raise RegistryError(
                400, "DIGEST_INVALID", f"provided digest {digest} did not match uploaded content {actual}"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        return _created(f"/v2/{name}/blobs/{digest}", digest)

    def _cancel_upload(self, _: dict[str, Any], name: str, upload: str) -> Response:
        self._upload(name, upload).unlink()
        return Response(status=204)

    def _get_blob(self, environ: dict[str, Any], name: str, digest: str) -> Response:
        path = self._blob(name, digest)
        if not path.exists():
            raise RegistryError(404, "BLOB_UNKNOWN", f"blob unknown to registry: {digest}")
        try:
            response = send_file(path, environ, mimetype="application/octet-stream", etag=digest)
        except HTTPException as error:
            raise RegistryError(error.code or 400, "SIZE_INVALID", str(error.description)) from error
        response.headers["Docker-Content-Digest"] = digest
        return response

    # Manifests

    def _find(self, repository: Any, reference: str) -> Any:
        by_digest = reference.startswith("sha256:")
        for image in repository.images:
            if (image.image_digest == reference) if by_digest else (reference in image.image_tags):
                return image
        return None

    def _get_manifest(self, _: dict[str, Any], name: str, reference: str) -> Response:
        repository = self._repository(name)
        with self._cloud.lock:
            image = self._find(repository, reference)
            if image is None:
                raise RegistryError(404, "MANIFEST_UNKNOWN", "Requested image not found")
            manifest, media_type = image.image_manifest, image.image_manifest_media_type
            digest = image.image_digest
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        return Response(manifest.encode(), content_type=media_type, headers=headers)

    def _put_manifest(self, environ: dict[str, Any], name: str, reference: str) -> Response:
        body = b"".join(read_body(environ))
        if len(body) > _MANIFEST_BYTES:
            raise RegistryError(413, "SIZE_INVALID", "The manifest is larger than 4 MiB")
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        by_digest = reference.startswith("sha256:")
        if by_digest and reference != digest:
            raise RegistryError(
                400, "DIGEST_INVALID", f"provided digest {reference} did not match uploaded content {digest}"
            )
        try:
            text = body.decode()
            manifest = json.loads(text)
            media_type = manifest.get("mediaType") or environ.get("CONTENT_TYPE", "").partition(";")[0]
        except (ValueError, AttributeError) as error:
            raise RegistryError(400, "MANIFEST_INVALID", "The manifest is not a JSON object") from error
        if media_type not in _MANIFEST_TYPES:
            raise RegistryError(400, "MANIFEST_INVALID", f"Unsupported manifest media type {media_type}")
        repository = self._repository(name)
        self._check_references(repository, manifest, media_type)
        with self._cloud.lock:
            if not by_digest:
                self._check_tag(repository, reference, digest)
            self._cloud.record(
                "ecr.image_put",
                region=repository.region_name,
                repository=name,
                manifest=text,
                media_type=media_type,
                tag=None if by_digest else reference,
                digest=digest,
            )
        return _created(f"/v2/{name}/manifests/{digest}", digest)

    def _check_references(self, repository: Any, manifest: dict[str, Any], media_type: str) -> None:
        if media_type in _INDEX_TYPES:
            for each in manifest.get("manifests", []):
                if self._find(repository, each["digest"]) is None:
                    raise RegistryError(
                        400, "MANIFEST_BLOB_UNKNOWN", f"manifest unknown to registry: {each['digest']}"
                    )
            return
        if "config" not in manifest or not isinstance(manifest.get("layers"), list):
            raise RegistryError(400, "MANIFEST_INVALID", "The manifest has no config or no layers")
        for each in (manifest["config"], *manifest["layers"]):
            if not self._blob(repository.name, each.get("digest", "")).exists():
                raise RegistryError(
                    400,
                    "MANIFEST_BLOB_UNKNOWN",
                    f"Layers with digests '[{each['digest']}]' required for pushing image into repository "
                    f"with name '{repository.name}' in the registry with id '{ACCOUNT_ID}' do not exist",
                )

    def _check_tag(self, repository: Any, tag: str, digest: str) -> None:
        image = self._find(repository, tag)
        if image is not None and image.image_digest != digest and repository.is_tag_immutable():
            raise RegistryError(
                400,
                "TAG_INVALID",
                f"The image tag '{tag}' already exists in the '{repository.name}' repository and cannot be "
                "overwritten because the tag is immutable.",
            )

    def _put_image(
        self, region: str, repository: str, manifest: str, media_type: str, tag: str | None, digest: str
    ) -> None:
        found = ecr_backends[ACCOUNT_ID][region].repositories[repository]
        images: list[Any] = found.images
        known = next((image for image in images if image.image_digest == digest), None)
        if tag is not None:
            for image in images:
                if image is not known and tag in image.image_tags:
                    image.image_tags.remove(tag)
                    image.image_tag = image.image_tags[0] if image.image_tags else None
        if known is None:
            image_type: Any = Image  # moto says that the tag is no None, and takes one
            images.append(image_type(ACCOUNT_ID, tag, manifest, repository, media_type, digest))
            if media_type not in _INDEX_TYPES:  # of an index ECR scans the images that it names
                self._scans.pushed(found, digest)
        elif tag is not None and tag not in known.image_tags:
            known.image_tags.append(tag)
            known.image_tag = known.image_tag or tag

    def _list_tags(self, _: dict[str, Any], name: str) -> Response:
        repository = self._repository(name)
        with self._cloud.lock:
            tags = sorted(tag for image in repository.images for tag in image.image_tags)
        return Response(json.dumps({"name": name, "tags": tags}), content_type="application/json")


def _query(environ: dict[str, Any]) -> dict[str, str]:
    return dict(parse_qsl(environ.get("QUERY_STRING", "")))


def _created(location: str, digest: str) -> Response:
    return Response(status=201, headers={"Location": location, "Docker-Content-Digest": digest})
