"""Rules, dashboard and scaling against what the real vLLM exports."""
