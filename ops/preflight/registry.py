"""The registry that the image is in, or will be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
from botocore.exceptions import ClientError

from ops.image_scan import ECR_IMAGE
from ops.preflight.aws import code_of
from ops.preflight.findings import Check, Finding, no, unknown, yes

if TYPE_CHECKING:
    from infra.settings import Settings
    from ops.preflight.aws import Account

_LIMIT_SECONDS = 10.0
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_KINDS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)


def checks(settings: Settings, account: Account) -> list[Check]:
    """Return the question about the image that is given, or about the registry of the one to be built."""
    reference = settings.image.reference
    if reference is None:
        return [Check("AWS", "ECR", lambda: account.ask(lambda: _ecr(account)))]
    if ECR_IMAGE.fullmatch(reference):
        return [Check("AWS", "image", lambda: account.ask(lambda: _in_ecr(account, reference)))]
    return [Check("registry", "image", lambda: _in_registry(reference))]


def _ecr(account: Account) -> Finding:
    [data] = account.client("ecr").get_authorization_token()["authorizationData"]
    return yes(f"{data['proxyEndpoint']} lets in")


def _in_ecr(account: Account, reference: str) -> Finding:
    image = ECR_IMAGE.fullmatch(reference)
    if image is None or image["region"] != account.region:
        return unknown(f"{reference} is in another region", "look there: aws ecr describe-images")
    try:
        account.client("ecr").describe_images(
            registryId=image["account"],
            repositoryName=image["repository"],
            imageIds=[{"imageDigest": image["digest"]}],
        )
    except ClientError as error:
        if code_of(error) not in ("ImageNotFoundException", "RepositoryNotFoundException"):
            raise
        return no(
            " ".join(str(error).split()),
            f"aws ecr describe-images --repository-name {image['repository']} --region {account.region}",
        )
    return yes(reference)


def _in_registry(reference: str) -> Finding:
    """Ask a registry of the OCI distribution specification, as one who has no account there."""
    name, _, digest = reference.partition("@")
    host, _, repository = name.partition("/")
    host = "registry-1.docker.io" if host == "docker.io" else host
    url = f"https://{host}/v2/{repository}/manifests/{digest}"
    fix = f"docker manifest inspect {reference}"
    try:
        with httpx.Client(timeout=_LIMIT_SECONDS, follow_redirects=True) as http:
            reply = http.head(url, headers={"Accept": _KINDS})
            if reply.status_code == httpx.codes.UNAUTHORIZED:
                asked = dict(_CHALLENGE.findall(reply.headers.get("WWW-Authenticate", "")))
                token = http.get(asked.pop("realm", ""), params=asked).raise_for_status().json()
                bearer = f"Bearer {token.get('token') or token.get('access_token')}"
                reply = http.head(url, headers={"Accept": _KINDS, "Authorization": bearer})
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError) as error:
        return unknown(f"{host} does not answer: {error or type(error).__name__}", fix)
    if reply.status_code == httpx.codes.NOT_FOUND:
        return no(f"{host} has no {repository}@{digest}", f"{fix}; then set berth:image.reference")
    if not reply.is_success:
        return unknown(f"{host} lets nobody see {repository} without a login: {reply.status_code}", fix)
    return yes(reference)
