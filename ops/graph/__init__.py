"""The graph of a stack's resources, without making any of them."""
