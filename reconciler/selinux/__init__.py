"""What SELinux means to sites: the level each one runs at, and what the audit log says of it. Nothing here does I/O."""
