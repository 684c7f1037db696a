"""The clouds on one machine, for the stack `local` and for tests."""
