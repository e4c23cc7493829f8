"""Agents: presets of stable-baselines3's algorithms for control, and what joins them to vector environments."""
