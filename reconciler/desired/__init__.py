"""What the fleet repository says: reading commits, strict YAML, kinds, problems with file, line and column."""
