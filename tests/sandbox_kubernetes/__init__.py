"""Tests of the sandbox's Kubernetes: real binaries, real kubectl."""
