"""The steps of the webhook loop: what ESPs report about attempts."""
