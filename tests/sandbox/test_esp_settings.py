"""The settings that a world makes for its fakes are settings that the product takes."""

from config.settings import load_settings
from sandbox import fakes
from sandbox.world import esp_settings, read_stanzas


def test_every_fake_of_a_stanza_becomes_an_account_at_its_address() -> None:
    addresses = {name: f"http://127.0.0.1:{port}" for port, name in enumerate(fakes.names(), start=9001)}
    settings = load_settings(esp_settings(addresses), None)
    assert {account.provider: account.base_url for account in settings.accounts} == {
        name: address for name, address in addresses.items() if name in read_stanzas()
    }
    assert {"socketlabs", "sparkpost"} <= {account.provider for account in settings.accounts}
