"""TLS of load balancers: which certificates and policies a listener may have, and what it ends TLS with.

The rules: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/https-listener-certificates.html
"""

from __future__ import annotations

from typing import Any

from moto.acm.models import AWSCertificateManagerBackend, acm_backends
from moto.elbv2.models import elbv2_backends
from moto.elbv2.ssl_policies import SSL_POLICIES

from sandbox.aws.cloud import ACCOUNT_ID
from sandbox.aws.errors import AwsError
from sandbox.aws.guards import before
from sandbox.aws.routing import Tls

_PROTOCOLS = {"HTTP", "HTTPS"}


def _find(arn: str) -> Any:
    for acm in list(acm_backends[ACCOUNT_ID].values()):
        if found := acm._certificates.get(arn):  # noqa: SLF001  # moto's own look-up changes the certificate
            return found
    return None


def check_tls(params: dict[str, Any], current: Any, *, replaying: bool) -> None:
    """Refuse a listener whose protocol, certificate or security policy AWS refuses.

    Args:
        params: the request's.
        current: the listener that is changed, or None.
        replaying: whether the request was accepted before; certificates had time then.

    Raises:
        AwsError: as Elastic Load Balancing says it.
    """
    protocol = params.get("Protocol") or (current.protocol if current is not None else "HTTP")
    if protocol not in _PROTOCOLS:
        raise AwsError(
            "ValidationError",
            "Listener protocol '"
            + protocol
            + "' must be one of 'HTTPS, HTTP' for application load balancers",
        )
    certificates = [each["CertificateArn"] for each in params.get("Certificates") or []]
    policy = params.get("SslPolicy")
    if protocol == "HTTP":
        if certificates:
            raise AwsError("ValidationError", "A certificate cannot be specified for HTTP listeners")
        if policy:
            raise AwsError("ValidationError", "An SSL policy cannot be specified for HTTP listeners")
        return
    if not certificates and not getattr(current, "certificate", None):
        raise AwsError("ValidationError", "A certificate must be specified for HTTPS listeners")
    if policy is not None and policy not in SSL_POLICIES:
        raise AwsError("SSLPolicyNotFound", f"SSL policy '{policy}' not found")
    for arn in certificates:
        found = _find(arn)
        if found is None:
            raise AwsError("CertificateNotFound", f"Certificate '{arn}' not found")
        if found.status != "ISSUED" and not replaying:
            raise AwsError(
                "UnsupportedCertificate",
                f"The certificate '{arn}' must have a fully-qualified domain name, a supported signature, "
                "and a supported key size.",
            )


def tls_of(listener: Any) -> Tls | None:
    """Return what a listener ends TLS with; None where its certificate is gone."""
    found = _find(listener.certificate)
    if found is None:
        return None
    only_1_3 = (listener.ssl_policy or "").startswith("ELBSecurityPolicy-TLS13-1-3")
    # moto puts a root of Amazon's at the end of the chain, which is of no use to a client.
    return Tls(found.cert, found.key, only_1_3)


@before(AWSCertificateManagerBackend, "delete_certificate")
def _certificate_is_unused(_: Any, arn: str) -> None:
    for elb in list(elbv2_backends[ACCOUNT_ID].values()):
        for balancer in elb.load_balancers.values():
            if any(arn in listener.certificates for listener in balancer.listeners.values()):
                raise AwsError(
                    "ResourceInUseException", f"Certificate {arn} in account {ACCOUNT_ID} is in use."
                )
