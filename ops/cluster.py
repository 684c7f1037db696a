"""A client of a stack's Kubernetes API, by the kubeconfig in its outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import OpenApiException
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from collections.abc import Mapping

ERRORS = (OpenApiException, HTTPError, config.ConfigException)
"""What a cluster that does not answer, or refuses, is told by."""


def core_api(kubeconfig: str, environment: Mapping[str, str]) -> Any:
    """Return the API of pods and their logs, which asks once and does not repeat.

    Args:
        kubeconfig: the cluster's kubeconfig.
        environment: the variables under which the kubeconfig's own command for a token works.

    Raises:
        ConfigException: the kubeconfig has no credentials, or its command fails.
    """
    configuration = client.Configuration()
    configuration.retries = 0
    config.load_kube_config_from_dict(
        _with_environment(kubeconfig, environment), client_configuration=configuration
    )
    return client.CoreV1Api(client.ApiClient(configuration))


def _with_environment(kubeconfig: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the kubeconfig with the variables that its own command for a token needs."""
    loaded: dict[str, Any] = yaml.safe_load(kubeconfig)
    wanted = {name: value for name, value in environment.items() if name.startswith("AWS_") or name == "PATH"}
    for user in loaded.get("users", []):
        command = user.get("user", {}).get("exec")
        if command is not None:
            given = {item["name"] for item in command.get("env") or []}
            command["env"] = [
                *(command.get("env") or []),
                *({"name": name, "value": value} for name, value in wanted.items() if name not in given),
            ]
    return loaded
