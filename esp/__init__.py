"""How to speak to an ESP: one file each, one class named `Esp` in it, loaded by name; `http` carries what they prepare.

Nothing here decides where a mail goes, opens a database or knows about Kafka, and no exception leaves this folder during a send.
"""
