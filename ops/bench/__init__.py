"""Measures endpoints under load, and settings of the server against each other."""
