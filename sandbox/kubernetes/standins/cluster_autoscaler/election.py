"""Elects one autoscaler among several by a Lease (coordination.k8s.io/v1)."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sandbox.kubernetes.node.api import ApiError, Object

if TYPE_CHECKING:
    from sandbox.kubernetes.standins.cluster_autoscaler.cluster import Cluster
    from sandbox.kubernetes.standins.cluster_autoscaler.flags import Flags

_LOG = logging.getLogger(__name__)


class Election:
    """This autoscaler's part in the election.

    Args:
        cluster: where the Lease is.
        flags: the arguments.
        identity: who this is.
    """

    def __init__(self, cluster: Cluster, flags: Flags, identity: str) -> None:
        self._api = cluster.api
        self._name = flags.text("leader-elect-resource-name")
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{flags.text('namespace')}/leases"
        self._seconds = flags.seconds("leader-elect-lease-duration")
        self._retry_seconds = flags.seconds("leader-elect-retry-period")
        self._identity = identity
        self._seen: tuple[str, float] = ("", time.monotonic())

    def wait(self) -> None:
        """Wait until this is the leader."""
        while True:
            try:
                if self.take():
                    return
            except ApiError as error:
                _LOG.error("error retrieving resource lock %s: %s", self._name, error)
            time.sleep(self._retry_seconds)

    def take(self) -> bool:
        """Take or renew the Lease; say whether this is the leader.

        Raises:
            ApiError: the API refused.
        """
        try:
            lease = self._api.get(f"{self._path}/{self._name}")
        except ApiError as error:
            if error.status != 404:
                raise
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name},
                "spec": self._spec({}),
            }
            self._api.create(self._path, lease)
            return True
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity")
        if holder not in {None, "", self._identity} and not self._expired(spec):
            return False
        lease["spec"] = self._spec(spec)
        self._api.update(f"{self._path}/{self._name}", lease)
        return True

    def _expired(self, spec: Object) -> bool:
        """Say whether a Lease was not renewed for its time, by this machine's own clock."""
        renewed = str(spec.get("renewTime"))
        if renewed != self._seen[0]:
            self._seen = (renewed, time.monotonic())
        return time.monotonic() - self._seen[1] > self._seconds

    def _spec(self, before: Object) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "acquireTime": now,
            **before,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._seconds),
            "renewTime": now,
        }
