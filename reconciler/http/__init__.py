"""HTTP: health, metrics and webhooks; no logic of its own."""
