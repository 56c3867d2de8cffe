"""The embedded stack: all roles and the broker in one command, and its archive."""
