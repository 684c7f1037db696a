"""Examples around the stacks that ship: what happens to a model before it is served, and beside it."""
