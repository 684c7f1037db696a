"""The `berth` command: what people type around `pulumi`. It makes no resource."""
