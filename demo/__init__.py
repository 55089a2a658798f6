"""The demonstration: two real nodes, a fleet repository, and everything a commit sets in motion."""
