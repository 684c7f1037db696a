"""RunPod on this machine: REST v2, the load balancer in front of the endpoints, and their workers."""
