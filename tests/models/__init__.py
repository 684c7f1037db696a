"""Every kind of model that a stack file of the project serves, with real vLLM."""
