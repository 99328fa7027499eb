"""A month of made-up history for a development database, told day by day; the same seed and the same clock tell the same month.

Pure invention on one side (who, what, how it went), COPY on the other (fill.py). Nothing made here may ever be sent: every
email is over, no row is due, and no mailbox of a real provider exists under the names used.
"""
