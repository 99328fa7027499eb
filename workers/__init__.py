"""The processes: each file named after a role is one kind of process; the packages hold what the roles are made of."""
