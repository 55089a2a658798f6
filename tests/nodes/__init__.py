"""Tests of the way to the nodes."""
