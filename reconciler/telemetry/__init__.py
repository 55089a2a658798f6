"""Structured logs (`logs`) and Prometheus metrics (`metrics`)."""
