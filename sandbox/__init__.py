"""A whole world on loopback for people who have no servers: Postgres, Kafka, Redis, fake ESPs, an inbox page.

Development, demonstrations and tests only. It must never listen beyond 127.0.0.1, never touch a file outside the world's
folder, and never outlive the process that made it. Nothing of the product imports this package.
"""
