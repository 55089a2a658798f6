"""Daemons that die, stand still and come back, over histories that are made up."""
