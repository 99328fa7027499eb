"""The settings that a world makes for its fakes are settings that the product takes."""

from urllib.parse import urlsplit

from config.settings import load_settings
from sandbox import fakes
from sandbox.world import esp_settings, read_stanzas


def test_every_fake_of_a_stanza_becomes_an_account_at_its_address() -> None:
    places = {name: f"127.0.0.1:{port}" for port, name in enumerate(fakes.names(), start=9001)}
    addresses = {name: f"http://{place}" for name, place in places.items()}
    settings = load_settings(esp_settings(addresses), None)
    found = {account.provider: urlsplit(account.base_url).netloc for account in settings.accounts}
    assert found == {name: place for name, place in places.items() if name in read_stanzas()}
    assert {"socketlabs", "sparkpost"} <= found.keys()
