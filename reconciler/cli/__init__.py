"""The command line: one file a verb; each parses, calls `reconciler.app` and prints. No logic in here."""
