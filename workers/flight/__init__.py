"""What was in the air when a worker died, and how it is settled."""
