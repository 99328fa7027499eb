"""The life of one email in words, for `manage.py explain`: from what is on record (db/life.py) to lines of text."""
