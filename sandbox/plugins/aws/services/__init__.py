"""The table of resource types, one file for each service."""
