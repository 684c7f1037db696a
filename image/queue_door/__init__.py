"""The queue door: takes jobs from a RunPod queue and passes them on to vLLM's server in the same container.

Runs in an environment of its own (requirements.lock), as a child of the entrypoint, which starts vLLM.
"""
