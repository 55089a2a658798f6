"""Tests of the settings, of the system the daemon runs under, and of how verbs speak with it."""
