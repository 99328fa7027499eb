"""An account: one tenant's credentials at one ESP, the unit of breakers, rates, quotas and webhook watermarks."""

import msgspec


class Account(msgspec.Struct, frozen=True):
    """`tenant` 0 is the service's own account. `credentials` holds this ESP's setting names in lower case without its prefix
    (SendGrid: api_key, template_id; Postmark: server_token); they never appear in a repr or a log line.
    `base_url` is scheme, host and port only. `weight` is the starting weight until there is evidence; 0 = never.
    """

    provider: str
    tenant: int
    base_url: str
    credentials: dict[str, str]
    weight: int = 100

    def __repr__(self) -> str:
        return f"Account({self.provider}/{self.tenant})"
