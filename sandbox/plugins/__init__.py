"""Pulumi provider plugins for AWS and Kubernetes, for where the official ones cannot be had."""
