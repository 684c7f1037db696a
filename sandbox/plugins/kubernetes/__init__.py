"""The Kubernetes provider plugin."""
