"""The EKS side: one component per file, from the network up to the load balancer."""
