"""What the exporter shows."""
