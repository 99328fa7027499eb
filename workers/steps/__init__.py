"""The steps of the delivery loop and what travels through them."""
