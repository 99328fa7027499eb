"""The email that is measured: a template of 3.6 KB with a loop and conditionals, a text part, a subject, and jobs for it.

Only features that stock Jinja2 has too, since the floor renders the same sources with it.
"""

import random
from collections.abc import Iterator

import orjson

from mail.template import Template

NAME = "bench-order"
SUBJECT = "{{ recipient.name }}, your {{ ticketCount }} tickets for {{ eventName }}"
TEXT = """\
Hello {{ recipient.name }},

thank you for your order {{ bookingId }}.
{% for item in items %}
- {{ item.count }} x {{ item.name }} at {{ item.price }} {{ currency }}{% if item.isGift %} (a gift){% endif %}
{% endfor %}
Total: {{ totalAmount }} {{ currency }}
{% if venue.hasParking %}Parking: {{ venue.parking }}{% else %}There is no parking at the venue.{% endif %}

{{ venue.name }}, {{ venue.street }}, {{ venue.city }}
"""
_CELL = 'style="padding:8px 12px;border-bottom:1px solid #e5e7eb;font-family:Arial,Helvetica,sans-serif;font-size:14px;color:#111827"'
_NUMBER = 'align="right" ' + _CELL
HTML = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{{{ eventName }}}}</title>
</head>
<body style="margin:0;padding:0;background:#f3f4f6">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="background:#f3f4f6">
<tr><td align="center" style="padding:24px">
<table role="presentation" width="600" cellpadding="0" cellspacing="0" style="background:#ffffff;border-radius:8px">
<tr><td style="padding:24px;font-family:Arial,Helvetica,sans-serif;font-size:22px;font-weight:bold;color:#111827">
Thank you, {{{{ recipient.name }}}}!
</td></tr>
<tr><td style="padding:0 24px 16px;font-family:Arial,Helvetica,sans-serif;font-size:15px;line-height:22px;color:#374151">
Your order <strong>{{{{ bookingId }}}}</strong> for <strong>{{{{ eventName }}}}</strong> is confirmed.
{{% if ticketCount > 1 %}}All {{{{ ticketCount }}}} tickets are attached to this order.{{% else %}}Your ticket is attached.{{% endif %}}
{{% if isVip %}}As a member you may use the <em>fast lane</em> at the entrance.{{% endif %}}
</td></tr>
<tr><td style="padding:0 24px">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0">
<tr>
<th align="left" {_CELL}>Item</th>
<th {_NUMBER}>Count</th>
<th {_NUMBER}>Price</th>
</tr>
{{% for item in items %}}
<tr>
<td {_CELL}>{{{{ item.name }}}}{{% if item.isGift %}} <span style="color:#059669">a gift</span>{{% endif %}}</td>
<td {_NUMBER}>{{{{ item.count }}}}</td>
<td {_NUMBER}>{{{{ item.price }}}} {{{{ currency }}}}</td>
</tr>
{{% endfor %}}
<tr>
<td {_CELL} colspan="2"><strong>Total</strong></td>
<td {_NUMBER}><strong>{{{{ totalAmount }}}} {{{{ currency }}}}</strong></td>
</tr>
</table>
</td></tr>
<tr><td style="padding:16px 24px;font-family:Arial,Helvetica,sans-serif;font-size:14px;line-height:20px;color:#374151">
<strong>{{{{ venue.name }}}}</strong><br>{{{{ venue.street }}}}<br>{{{{ venue.city }}}}<br>
{{% if venue.hasParking %}}Parking: {{{{ venue.parking }}}}{{% else %}}There is no parking at the venue.{{% endif %}}
</td></tr>
<tr><td style="padding:16px 24px;font-family:Arial,Helvetica,sans-serif;font-size:14px;line-height:20px;color:#374151">
Doors open one hour before the first act. Please bring this mail, printed or on your telephone, and a document with your name;
tickets can be given back until three days before the show, and the money is on its way to you within a week.
</td></tr>
<tr><td style="padding:16px 24px;font-family:Arial,Helvetica,sans-serif;font-size:12px;color:#9ca3af">
This mail went to {{{{ recipient.email }}}} because of the order {{{{ bookingId }}}}.
</td></tr>
</table>
</td></tr>
</table>
</body>
</html>
"""
_NAMES = ("Ada Lovelace", "Grace Hopper", "Alan Turing", "Barbara Liskov", "Katherine Johnson")
_DOMAINS = ("gmail.com", "outlook.com", "yahoo.com", "icloud.com", "example.org")


def template() -> Template:
    """As it is stored."""
    variables = ("bookingId", "eventName", "ticketCount", "items", "totalAmount", "venue")
    return Template(NAME, "1", "transactional", SUBJECT, HTML, TEXT, variables)


def jobs(count: int, prefix: str) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of so many records, each with a recipient of its own; the same prefix makes the same ones."""
    dice = random.Random(prefix)
    for number in range(count):
        yield f"{prefix}{number:07}".encode(), orjson.dumps(_job(f"{prefix}{number:07}", dice))


def _job(job_id: str, dice: random.Random) -> dict[str, object]:
    count = dice.randint(1, 4)
    return {
        "id": job_id,
        "type": "email",
        "template": NAME,
        "recipient": {"email": f"{job_id}@{dice.choice(_DOMAINS)}", "name": dice.choice(_NAMES), "userId": f"u-{job_id}"},
        "data": {
            "bookingId": f"b-{job_id}",
            "eventName": "Rock & Roll at the Lake 2026",
            "ticketCount": count,
            "isVip": dice.random() < 0.3,
            "items": [
                {"name": "Seat, row 12", "count": count, "price": 49.5, "isGift": False},
                {"name": "Cushion", "count": 1, "price": 5.0, "isGift": dice.random() < 0.5},
                {"name": "Programme", "count": 1, "price": 3.5, "isGift": False},
            ],
            "totalAmount": 49.5 * count + 8.5,
            "currency": "EUR",
            "venue": {"name": "Lake Stage", "street": "Shore Road 1", "city": "12345 Lakeside", "hasParking": True, "parking": "P2"},
        },
        "priority": "normal",
        "retryCount": 0,
        "maxRetries": 3,
    }
