"""Where jobs come from: Kafka partitions and rows whose time has come, behind one contract (intake/source.py).

Nothing here decodes, sends or stores: a source hands out bytes and is told when they are handled.
"""
