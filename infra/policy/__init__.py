"""Policies that the engine checks against every stack, whatever program declares it."""
