"""Puts one sandbox account together: the state, its services, what runs behind them, and the HTTP server."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from sandbox.aws import (  # noqa: F401  # these put AWS's rules in front of moto's operations
    rules_autoscaling,
    rules_ec2,
    rules_iam,
    rules_kms,
    rules_logs,
    rules_other,
    rules_ssm,
    rules_waf,
)
from sandbox.aws.addresses import Addresses
from sandbox.aws.budgets import Budgets
from sandbox.aws.builds import Builds
from sandbox.aws.cloud import ACCOUNT_ID, REGION, Cloud
from sandbox.aws.codebuild import CodeBuild, CodeBuildState
from sandbox.aws.eks.controller import Controller
from sandbox.aws.eks.events import Events
from sandbox.aws.eks.pod_identity import PodIdentity
from sandbox.aws.eks.service import Eks
from sandbox.aws.eks.state import State
from sandbox.aws.eks.token_review import TokenReviewer
from sandbox.aws.endpoints import settle_endpoints
from sandbox.aws.faults import Faults
from sandbox.aws.identity import create_deployer, load_credentials
from sandbox.aws.loadbalancer import LoadBalancers
from sandbox.aws.messages import json_response
from sandbox.aws.nat import settle_nat_gateways
from sandbox.aws.quotas import ServiceQuotas
from sandbox.aws.registry import Registry
from sandbox.aws.reverse import private_addresses
from sandbox.aws.scans import Scans
from sandbox.aws.server import Server

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from sandbox.aws.messages import HttpRequest, HttpResponse

_log = logging.getLogger(__name__)


class Account:
    """A whole sandbox account.

    Args:
        directory: where everything is kept.
        block: the loopback block.
        port: the port of the API.
        stop: set when the account cannot go on.
    """

    def __init__(self, directory: Path, block: int, port: int, stop: threading.Event) -> None:
        os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT_ID
        os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
        self.failure: str | None = None
        self._stop = stop
        self._credentials = load_credentials(directory)
        self.cloud = Cloud(directory, Addresses(block, port), self._fail)
        create_deployer(self._credentials)
        settle_nat_gateways(self.cloud)
        settle_endpoints(self.cloud)
        self.cloud.services["budgets"] = Budgets(self.cloud)
        self.cloud.services["service-quotas"] = ServiceQuotas(self.cloud)
        eks_state = State()
        self.cloud.services["eks"] = Eks(self.cloud, eks_state)
        Events(self.cloud, eks_state)
        build_state = CodeBuildState()
        self.cloud.services["codebuild"] = CodeBuild(self.cloud, build_state)
        self._builds = Builds(self.cloud, build_state, self._environment())
        self._clusters = Controller(self.cloud, eks_state, self._environment())
        self._balancers = LoadBalancers(self.cloud, lambda instance_id: self._node(eks_state, instance_id))
        self._reviewer = TokenReviewer(self.cloud, eks_state)
        self._identities = PodIdentity(self.cloud, eks_state, self._clusters.control_plane)
        faults = Faults(self.cloud, eks_state, self._credentials.secret_access_key)
        scans = Scans(self.cloud, self._credentials.secret_access_key)
        admin: dict[str, Callable[[HttpRequest], HttpResponse]] = {
            "health": self._health,
            "eks": self._answer_cluster,
            "addresses": lambda _: json_response(
                200, self.cloud.inside(lambda: private_addresses(self.cloud, eks_state))
            ),
            "faults": faults.settings,
            "interruptions": faults.interruptions,
            "scans": scans.answer,
        }
        registry = Registry(self.cloud, self._credentials.secret_access_key, scans)
        self._server = Server(self.cloud, registry, admin)

    def _node(self, state: State, instance_id: str) -> str | None:
        number = state.node_numbers.get(instance_id)
        return self.cloud.addresses.node(number) if number else None

    def _environment(self) -> dict[str, str]:
        """Return the environment of what runs behind the account: the deployer's key and this endpoint."""
        endpoint = self.cloud.addresses.endpoint
        return {
            **os.environ,
            "AWS_ACCESS_KEY_ID": self._credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self._credentials.secret_access_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": endpoint,
            "BERTH_SANDBOX_REGISTRY": endpoint,
        }

    def _fail(self, message: str) -> None:
        _log.error("%s", message)
        self.failure = message
        self._stop.set()

    def _answer_cluster(self, request: HttpRequest) -> HttpResponse:
        """Answer what the parts of a cluster ask, under `/_sandbox/eks/<cluster>/`."""
        cluster, *what = request.path.strip("/").split("/")[2:] or [""]
        if (request.method, what) == ("POST", ["token-review"]):
            return self._reviewer.review(cluster, request)
        if (request.method, what) == ("GET", ["pod-identity-credentials"]):
            return self._identities.credentials(cluster, request)
        if request.method == "GET" and what[:1] == ["pod-identity"] and len(what) == 3:
            return self._identities.is_associated(cluster, what[1], what[2])
        return json_response(404, {"message": f"There is no {request.method} {request.path}."})

    def _health(self, _: HttpRequest) -> HttpResponse:
        return json_response(
            200,
            {
                "status": "ok",
                "clusters": self._clusters.healthy(),
                "listener_failures": self._balancers.failures(),
            },
        )

    def start(self) -> None:
        """Make the journalled changes again, bring what runs in line with them, and begin to answer."""
        replayed = self.cloud.replay()
        if replayed:
            _log.info("%d changes made again", replayed)
        self._builds.recover()
        self._balancers.start()
        self._server.start()
        self.cloud.signal_change()

    def stop(self) -> None:
        """Stop answering, and everything that runs behind the account."""
        self._server.stop()
        self._balancers.stop()
        self._builds.stop()
        self._clusters.stop()
        self.cloud.close()

    @property
    def endpoints(self) -> dict[str, str]:
        """What the ready line says."""
        return {
            "endpoint": self.cloud.addresses.endpoint,
            "region": REGION,
            "account_id": ACCOUNT_ID,
            "access_key_id": self._credentials.access_key_id,
            "secret_access_key": self._credentials.secret_access_key,
        }
