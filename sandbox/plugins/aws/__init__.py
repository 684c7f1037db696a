"""The AWS provider plugin."""
