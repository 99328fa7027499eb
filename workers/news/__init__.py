"""What the world is told: events, dead letters, statuses."""
