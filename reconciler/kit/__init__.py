"""Small things without a domain word: ids, time, canonical JSON, text, packaged files."""
