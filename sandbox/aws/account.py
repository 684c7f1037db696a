"""Puts one sandbox account together: the state, its services, what runs behind them, and the HTTP server."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from sandbox.aws import rules_ec2, rules_other  # noqa: F401  # puts AWS's rules in front of moto's operations
from sandbox.aws.addresses import Addresses
from sandbox.aws.builds import Builds
from sandbox.aws.cloud import ACCOUNT_ID, REGION, Cloud
from sandbox.aws.codebuild import CodeBuild, CodeBuildState
from sandbox.aws.eks.controller import Controller
from sandbox.aws.eks.events import Events
from sandbox.aws.eks.service import Eks
from sandbox.aws.eks.state import State
from sandbox.aws.eks.token_review import TokenReviewer
from sandbox.aws.identity import create_deployer, load_credentials
from sandbox.aws.loadbalancer import LoadBalancers
from sandbox.aws.nat import NatGateways
from sandbox.aws.registry import Registry
from sandbox.aws.server import Server, json_response

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
        self.nat_gateways = NatGateways(self.cloud)
        eks_state = State()
        self.cloud.services["eks"] = Eks(self.cloud, eks_state)
        Events(self.cloud, eks_state)
        build_state = CodeBuildState()
        self.cloud.services["codebuild"] = CodeBuild(self.cloud, build_state)
        self._builds = Builds(self.cloud, build_state, self._environment())
        self._clusters = Controller(self.cloud, eks_state, self._environment())
        self._balancers = LoadBalancers(self.cloud, lambda instance_id: self._node(eks_state, instance_id))
        admin: dict[str, Callable[[HttpRequest], HttpResponse]] = {
            "health": self._health,
            "eks": TokenReviewer(self.cloud, eks_state),
        }
        registry = Registry(self.cloud, self._credentials.secret_access_key)
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
