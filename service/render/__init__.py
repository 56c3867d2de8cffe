"""What the commands print for people: one file a subject."""
