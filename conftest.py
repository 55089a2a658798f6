"""Loads the node lab's fixtures for every test."""

pytest_plugins = ["tests.lab_fixtures"]
