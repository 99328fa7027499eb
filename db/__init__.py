"""What we remember: Postgres, and every statement that is sent to it (db/sql/*.sql)."""
