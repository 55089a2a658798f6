"""Pure: a resource, its platform and what is recorded of it become a section of typed steps for a node."""
