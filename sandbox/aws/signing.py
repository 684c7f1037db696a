"""Who signed a request: checks AWS Signature Version 4 against the keys of moto's IAM and STS.

The algorithm: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from sandbox.aws.errors import AwsError

if TYPE_CHECKING:
    from sandbox.aws.messages import HttpRequest

_CLOCK_SKEW = timedelta(minutes=15)
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True)
class Principal:
    """The owner of an access key."""

    arn: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def find_principal(account_id: str, access_key_id: str) -> Principal | None:
    """Return the owner of an access key, or None where nobody owns it or it is not active."""
    for user in iam_backends[account_id]["aws"].users.values():
        for key in user.access_keys:
            if key.access_key_id == access_key_id and key.status == "Active":
                return Principal(user.arn, access_key_id, key.secret_access_key)
    session = sts_backends[account_id]["aws"].get_assumed_role_from_access_key(access_key_id)
    if session is not None:
        return Principal(session.arn, access_key_id, session.secret_access_key, session.session_token)
    return None


def authenticate(request: HttpRequest, account_id: str) -> Principal | None:
    """Return who signed a request; None for the two calls that AWS takes unsigned.

    Raises:
        AwsError: it is not signed, or not by a key of this account, or not rightly, or it is too old.
    """
    if request.credential is None:
        if request.action in {"AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"}:
            return None
        raise _missing(request)
    principal = find_principal(account_id, request.credential[0])
    token = request.header("x-amz-security-token") or request.query.get("X-Amz-Security-Token")
    if principal is None or (principal.session_token or None) != (token or None):
        raise _unknown_key(request)
    presigned = "X-Amz-Signature" in request.query
    sent = _sent_signature(request, presigned=presigned)
    _check_age(request, presigned=presigned)
    _check_body(request)
    if not hmac.compare_digest(sent, _signature(request, principal, presigned=presigned)):
        raise _mismatch(request)
    return principal


def _missing(request: HttpRequest) -> AwsError:
    if request.service == "s3":
        return AwsError("AccessDenied", "Access Denied", 403)
    return AwsError("MissingAuthenticationToken", "Missing Authentication Token", 403)


def _unknown_key(request: HttpRequest) -> AwsError:
    if request.service == "s3":
        return AwsError(
            "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", 403
        )
    if request.service == "ec2":
        return AwsError("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
    if _query_protocol(request):
        return AwsError("InvalidClientTokenId", "The security token included in the request is invalid.", 403)
    return AwsError(
        "UnrecognizedClientException", "The security token included in the request is invalid.", 403
    )


def _mismatch(request: HttpRequest) -> AwsError:
    if request.service == "ec2":
        return AwsError("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
    if request.service == "s3" or _query_protocol(request):
        return AwsError("SignatureDoesNotMatch", _MISMATCH, 403)
    return AwsError("InvalidSignatureException", _MISMATCH, 403)


def _query_protocol(request: HttpRequest) -> bool:
    return bool(request.form.get("Action") or request.query.get("Action"))


def _sent_signature(request: HttpRequest, *, presigned: bool) -> str:
    if presigned:
        return request.query["X-Amz-Signature"]
    found = re.search(r"Signature=([0-9a-f]{64})", request.header("authorization") or "")
    return found[1] if found else ""


def _check_age(request: HttpRequest, *, presigned: bool) -> None:
    stamp = request.query.get("X-Amz-Date") if presigned else request.header("x-amz-date")
    try:
        signed = datetime.strptime(stamp or "", "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        lifetime = timedelta(seconds=int(request.query.get("X-Amz-Expires", "0")))
    except ValueError as error:
        raise _mismatch(request) from error
    now = datetime.now(UTC)
    latest = signed + (lifetime if presigned else _CLOCK_SKEW)
    if not signed - _CLOCK_SKEW <= now <= latest:
        code = "RequestTimeTooSkewed" if request.service == "s3" else "SignatureDoesNotMatch"
        raise AwsError(
            code, f"Signature expired: {stamp} is now earlier than {now - _CLOCK_SKEW:%Y%m%dT%H%M%SZ}", 403
        )


def _check_body(request: HttpRequest) -> None:
    """Refuse a body that is not the one whose hash was signed."""
    claimed = request.header("x-amz-content-sha256") or ""
    if re.fullmatch(r"[0-9a-f]{64}", claimed) and claimed != hashlib.sha256(request.body).hexdigest():
        raise AwsError(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            400,
        )


def _signature(request: HttpRequest, principal: Principal, *, presigned: bool) -> str:
    if presigned:
        scope = request.query["X-Amz-Credential"].partition("/")[2]
        stamp = request.query.get("X-Amz-Date", "")
        signed_headers = request.query.get("X-Amz-SignedHeaders", "").split(";")
    else:
        authorization = request.header("authorization") or ""
        scope = authorization.partition("Credential=")[2].partition(",")[0].partition("/")[2]
        stamp = request.header("x-amz-date") or ""
        signed_headers = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    canonical = "\n".join(
        [
            request.method,
            _canonical_path(request),
            _canonical_query(request),
            *(f"{name}:{_canonical_value(request, name)}" for name in signed_headers),
            "",
            ";".join(signed_headers),
            _payload_hash(request, presigned=presigned),
        ]
    )
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + principal.secret_access_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _canonical_path(request: HttpRequest) -> str:
    if request.service == "s3":
        return request.path
    parts: list[str] = []
    for part in request.path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    path = "/" + "/".join(parts)
    if parts and request.path.endswith("/"):
        path += "/"
    return quote(path, safe="/~")


def _canonical_query(request: HttpRequest) -> str:
    pairs = []
    for part in request.target.partition("?")[2].split("&"):
        if part and not part.startswith("X-Amz-Signature="):
            key, _, value = part.partition("=")
            # Clients may leave characters unencoded that the signature encodes.
            pairs.append((quote(key, safe="-_.~%"), quote(value, safe="-_.~%")))
    return "&".join(f"{key}={value}" for key, value in sorted(pairs))


def _canonical_value(request: HttpRequest, name: str) -> str:
    values = [" ".join(value.split()) for key, value in request.headers if key.lower() == name]
    return ",".join(values)


def _payload_hash(request: HttpRequest, *, presigned: bool) -> str:
    if sent := request.header("x-amz-content-sha256"):
        return sent
    if presigned and request.service == "s3":
        return "UNSIGNED-PAYLOAD"
    return hashlib.sha256(b"" if presigned else request.body).hexdigest()
