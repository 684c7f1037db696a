"""Stand-in for the Cluster Autoscaler on AWS: node groups grow for pods that wait, and shrink when unneeded.

It asks the same APIs with the same rights as the original (cluster-autoscaler 1.35): the Kubernetes API by
its pod's service account, AWS by its pod's credentials. It decides by node selectors, required node affinity,
taints and requests, not by spread or pod affinity; it makes groups larger for one kind of node at a time.
Arguments of the original that it does not follow it names in its log.
"""
