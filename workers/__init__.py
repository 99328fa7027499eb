"""The processes: each file named after a role is one kind of process; the other files are what all of them share."""
