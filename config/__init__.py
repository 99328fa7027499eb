"""Settings: read once, checked at once, then frozen. Read by the supervisor, manage.py, workers and operations only."""
