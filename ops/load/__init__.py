"""Load on a stack's endpoints: what is sent, by whom, and what came of it."""
