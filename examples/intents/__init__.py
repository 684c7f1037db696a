"""A classifier of intents: fine-tuned, merged and measured, for the stack `intent-classifier`."""
