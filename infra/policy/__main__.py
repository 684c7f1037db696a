"""The policy pack: serves its policies to the engine for as long as that runs."""

from __future__ import annotations

from pulumi_policy import EnforcementLevel, PolicyPack

from infra.policy.pack import POLICIES

# Its constructor serves, and returns when the engine is done.
PolicyPack("berth", POLICIES, enforcement_level=EnforcementLevel.MANDATORY)
