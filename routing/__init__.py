"""Which ESP each message goes out through: weights, breakers and the arithmetic of sharing out.

Nothing here talks to an ESP, a database or a broker: the answers come from values and shared memory only.
"""
