"""Measurements: one script per question; each prints one table and names the machine. Nothing imports this folder."""
