"""Reward models: from observations and actions to the reward that a policy learns from."""
