"""One node of a sandbox cluster: registers itself and runs the pods that are bound to it as processes.

What a container gets that is real: its image's files and ENTRYPOINT, arguments, environment, probes,
lifecycle hooks, grace periods, restarts, logs, volumes' contents, an address of its own. What it does not
get, because a container here is no namespace: isolation. Security contexts and resource limits are taken and
have no effect, but for `runAsNonRoot`, which is checked; a volume lies under the container's own folder and
not at its `mountPath` (`mounts.py` says how a program is led there) and does not change while the pod runs; a
Service's cluster IP leads nowhere; host names are those of this machine. Fields that would change what a pod
does and that the node does not know keep the pod from starting, with a message that names them
(`unsupported.py`).
"""
