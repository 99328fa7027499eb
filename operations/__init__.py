"""What an operator types: one file per group of manage.py's commands."""
