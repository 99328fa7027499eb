"""The vocabulary: frozen values that every part of the product speaks in.

Nothing here does I/O, and nothing here imports another folder of this project.
"""
