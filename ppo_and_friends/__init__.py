"""Proximal Policy Optimization and friends."""
