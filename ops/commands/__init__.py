"""The commands, one module each: what it asks for on the command line and what it does."""
