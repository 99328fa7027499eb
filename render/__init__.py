"""Job → message: templates in a confined Jinja2, substitutions of content requests, and the rules for headers.

Nothing here talks to a database, a network or a clock; job data is never template source.
"""
