"""Runs fleets of PHP web servers from git."""

__version__ = "0.1.0"
