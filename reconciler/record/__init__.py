"""Deployments, conditions and the inventory: what happened, and what is known to be true."""
