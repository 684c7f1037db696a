"""One node of a sandbox cluster: registers itself and runs the pods that are bound to it as processes.

What a container gets that is real: its image's files and ENTRYPOINT, arguments, environment, probes,
lifecycle hooks, grace periods, restarts, logs, volumes' contents, tokens, an address of its own. Services'
NodePorts and health check ports (`nodeports.py`) and NetworkPolicies (`gates.py` for what comes in,
`container_site/` for what Python programs send out, `agent.py` for the decision) work as kube-proxy and the
VPC CNI have them, GPUs as a device plugin announces them (`devices.py`), EKS Pod Identity as its webhook does
(`pod_identity.py`). A few third-party images, which cannot be pulled here, are played by stand-ins
(`sandbox/kubernetes/standins`).

What a container does not get, because it is no namespace: isolation. Security contexts and resource limits
are taken and have no effect, but for `runAsNonRoot`, which is checked; a volume lies under the container's
own folder and not at its `mountPath` (`mounts.py` says how a program is led there) and does not change while
the pod runs, but for tokens; a `hostPath` is a folder of the sandbox's node and not of this machine; a
program that does not listen on the address it is given (`BERTH_HOST`) is reached past its pod's gate; a
Service's cluster IP leads nowhere; host names are those of this machine. Fields that would change what a pod
does and that the node does not know keep the pod from starting, with a message that names them
(`unsupported.py`).
"""
