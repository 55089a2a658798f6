"""Alerts as states that survive restarts, and their delivery by webhook, mail and chat."""
