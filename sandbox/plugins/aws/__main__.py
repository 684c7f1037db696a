"""Starts the AWS provider plugin."""

from __future__ import annotations

import sys

from sandbox.plugins.aws.provider import AwsProvider
from sandbox.plugins.host import serve

if __name__ == "__main__":
    serve(AwsProvider(), sys.argv[1:])
