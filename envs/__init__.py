"""Environments on planar bodies, their kinematics and their pictures."""
