"""A Kubernetes cluster on this machine: the real control plane, and nodes that run pods as processes.

- `python -m sandbox.kubernetes` runs etcd, kube-apiserver, kube-scheduler and kube-controller-manager.
- `python -m sandbox.kubernetes.node` is one node: what kubelet, container runtime and kube-proxy do.
- `sandbox.kubernetes.binaries.ensure` puts the programs into the user's cache.
"""
