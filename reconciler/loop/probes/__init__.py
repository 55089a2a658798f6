"""One file for each sort of health check: how it is made and when it passes."""
