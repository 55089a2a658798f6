"""How: a plan's changes to the nodes, and what the nodes answered back into the record."""
