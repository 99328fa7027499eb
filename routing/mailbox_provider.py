"""Which mailbox provider an address belongs to, for weights per provider; by its domain, or better by its mail exchanger.

Pure look-ups, no DNS: who has looked up the exchanger passes its name in. The set of answers is small on purpose, because
each one is a statistic of its own that needs evidence; a domain that nobody here knows is "other".
"""

OTHER = "other"

_DOMAINS = {
    "gmail": "gmail.com googlemail.com",
    # outlook.<country> and hotmail.<country> are matched by their first label below
    "outlook": "msn.com passport.com windowslive.com",
    # AOL, Verizon, AT&T and Yahoo's older brands share Yahoo's mail exchangers (seen 2026-11)
    "yahoo": "aim.com aol.com att.net bellsouth.net myyahoo.com netscape.net rocketmail.com sbcglobal.net verizon.net ymail.com",
    "icloud": "icloud.com mac.com me.com",
    "gmx": "gmx.com mail.com web.de",
    "telekom": "magenta.de t-online.de",
    "orange": "orange.fr wanadoo.fr",
    "free": "free.fr",
    "libero": "blu.it giallo.it inwind.it iol.it libero.it",
    "comcast": "comcast.net xfinity.com",
    "proton": "pm.me proton.me protonmail.ch protonmail.com",
    "zoho": "zoho.com zohomail.com zohomail.eu",
    "fastmail": "fastmail.com fastmail.fm",
    "mailru": "bk.ru inbox.ru internet.ru list.ru mail.ru vk.com",
    "yandex": "ya.ru yandex.com",
    "netease": "126.com 163.com yeah.net",
    "qq": "foxmail.com qq.com",
    "naver": "naver.com",
}
# brands that own one domain per country: yahoo.co.uk, hotmail.fr, gmx.at, yandex.kz
_BRANDS = {
    "outlook": "outlook",
    "hotmail": "outlook",
    "live": "outlook",
    "yahoo": "yahoo",
    "aol": "yahoo",
    "gmx": "gmx",
    "yandex": "yandex",
}
_EXCHANGERS = {
    "gmail": "google.com googlemail.com",
    "outlook": "outlook.com hotmail.com outlook.cn outlook.de",
    "yahoo": "yahoodns.net",
    "icloud": "icloud.com",
    "gmx": "gmx.net web.de mail.com",
    "telekom": "t-online.de",
    "orange": "orange.fr",
    "free": "free.fr proxad.net",
    "libero": "libero.it",
    "comcast": "comcast.net",
    "proton": "protonmail.ch",
    "zoho": "zoho.com zoho.eu zoho.in",
    "fastmail": "messagingengine.com",
    "mailru": "mail.ru",
    "yandex": "yandex.ru yandex.net",
    "netease": "netease.com",
    "qq": "qq.com",
    "naver": "naver.com",
}
# second-level registries under which a brand's country domains hang: yahoo.co.uk, hotmail.com.br
_REGISTRY_LABELS = frozenset({"co", "com", "ne", "net", "org"})


def _inverted(table: dict[str, str]) -> dict[str, str]:
    return {domain: provider for provider, domains in table.items() for domain in domains.split()}


_BY_DOMAIN = _inverted(_DOMAINS)
_BY_EXCHANGER = _inverted(_EXCHANGERS)


def mailbox_provider(address: str) -> str:
    """The provider of an address (or of a bare domain): "gmail", "outlook", "yahoo", ..., or "other"."""
    domain = address.rpartition("@")[2].lower().rstrip(".")
    return _BY_DOMAIN.get(domain) or _by_brand(domain)


def mailbox_provider_of_exchanger(host: str) -> str:
    """The provider behind a mail exchanger (an MX record's host): hosted domains behave as their host's own, or "other"."""
    labels = host.lower().rstrip(".").split(".")
    return _BY_EXCHANGER.get(".".join(labels[-2:]), OTHER)


def _by_brand(domain: str) -> str:
    brand, _, rest = domain.partition(".")
    labels = rest.split(".")
    is_country_domain = len(labels) == 1 or (len(labels) == 2 and labels[0] in _REGISTRY_LABELS and len(labels[1]) == 2)
    return _BRANDS.get(brand, OTHER) if rest and is_country_domain else OTHER
