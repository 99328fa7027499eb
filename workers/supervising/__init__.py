"""The supervisor: its loop, the pool of processes, what they share, how they start and end."""
