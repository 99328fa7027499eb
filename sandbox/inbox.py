"""The inbox: what the fake ESPs received, as a page for people and as JSON; and the switchboard of their misbehaviour.

    GET  /                                          the page
    GET  /api/mails?recipient=&esp=&before=&limit=  newest first, `before` is the last `n` of the page above
    GET  /api/mails/<n>                             one mail, whole
    GET  /control, POST /control                    misbehaviour of every fake; {"esp": "sendgrid" or "*", ...changes}

A mail is a stranger's HTML: it is only ever handed out inside JSON, shown in a frame without any permission, and the page's
policy forbids scripts, requests and navigation to it. Nothing here may answer a host name but loopback's.
"""

from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from sandbox import fakes
from sandbox.fakes.contract import Mail
from sandbox.fakes.mailbox import Entry, Mailbox
from sandbox.fakes.misbehaviour import BadBehaviour, Misbehaviour

_PAGES = Path(__file__).with_name("pages")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = ("inbox.css", "inbox.js", "mail.js", "parts.js", "icon.svg")
_HOSTS = ("127.0.0.1", "localhost")
_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 500
_SECURITY = {
    # a srcdoc frame inherits this policy: inline styles are for the mails, and nothing of a mail can run, load or send
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src data:; connect-src 'self'; frame-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Inbox:
    """Answers the page's questions from one mailbox."""

    def __init__(self, mailbox: Mailbox, misbehaviours: Mapping[str, Misbehaviour]):
        self._mailbox = mailbox
        self._misbehaviours = misbehaviours
        self._readers = {name: fakes.load(name) for name in misbehaviours}

    async def list_mails(self, request: web.Request) -> web.Response:
        """One page of the index: {"mails", "older": the `before` of the next page or null, "newest", "kept", "counts"}."""
        query = request.query
        before = _number(query.get("before"), "before")
        limit = min(_number(query.get("limit"), "limit") or _PAGE_SIZE, _MAX_PAGE_SIZE)
        wanted, esp = query.get("recipient", "").strip().lower(), query.get("esp", "")
        matching = (
            entry
            for entry in self._mailbox.newest_first(before)
            if (not esp or entry.esp == esp) and (not wanted or wanted in entry.recipient.lower())
        )
        found = list(islice(matching, limit + 1))
        page = found[:limit]
        return _json(
            {
                "mails": [_summary(entry) for entry in page],
                "older": page[-1].n if len(found) > limit else None,
                "newest": self._mailbox.newest,
                "kept": self._mailbox.limit,
                "counts": {name: self._mailbox.counts[name] for name in self._misbehaviours},
            }
        )

    async def show_mail(self, request: web.Request) -> web.Response:
        """One mail: its summary, and its content or null where only the index still knows it."""
        entry = self._mailbox.find(int(request.match_info["n"]))
        if entry is None:
            return _json({"error": "no such mail, or no longer kept"}, 404)
        body = self._mailbox.body(entry)
        mail = self._readers[entry.esp].mail(body, entry.item) if body is not None else None
        return _json({**_summary(entry), "content": _content(mail) if mail else None})

    async def show_control(self, request: web.Request) -> web.Response:
        return _json({name: misbehaviour.shown() for name, misbehaviour in self._misbehaviours.items()})

    async def change_control(self, request: web.Request) -> web.Response:
        """Change one fake's behaviour, or all for "*"; 400 says what is wrong, and then nothing was changed."""
        if request.content_type != "application/json":
            # a page of another site could post a form, but not this type without asking first
            return _json({"error": "Content-Type must be application/json"}, 415)
        try:
            changes = orjson.loads(await request.read())
            chosen = self._chosen(changes.pop("esp", None))
            for misbehaviour in chosen.values():
                misbehaviour.plan(changes)
        except (orjson.JSONDecodeError, AttributeError):
            return _json({"error": "the body must be a JSON object"}, 400)
        except BadBehaviour as error:
            return _json({"error": str(error)}, 400)
        for misbehaviour in chosen.values():
            misbehaviour.change(changes)
        return _json({name: misbehaviour.shown() for name, misbehaviour in chosen.items()})

    def _chosen(self, esp: object) -> Mapping[str, Misbehaviour]:
        if esp == "*":
            return self._misbehaviours
        if not isinstance(esp, str) or esp not in self._misbehaviours:
            raise BadBehaviour(f'"esp" must be "*" or one of {", ".join(self._misbehaviours)}')
        return {esp: self._misbehaviours[esp]}


def build_inbox(mailbox: Mailbox, misbehaviours: Mapping[str, Misbehaviour]) -> web.Application:
    """The inbox's application, ready to be served on loopback."""
    inbox = Inbox(mailbox, misbehaviours)
    app = web.Application(middlewares=[_guard], client_max_size=4 * 1024 * 1024)
    app.add_routes(
        [
            web.get("/", _page("inbox.html")),
            *[web.get(f"/{name}", _page(name)) for name in _FILES],
            web.get("/api/mails", inbox.list_mails),
            web.get(r"/api/mails/{n:\d{1,18}}", inbox.show_mail),
            web.get("/control", inbox.show_control),
            web.post("/control", inbox.change_control),
        ]
    )
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Only for loopback's own names: another site's name that resolves to 127.0.0.1 must not read mails (DNS rebinding)."""
    if request.host.rpartition(":")[0] not in _HOSTS and request.host not in _HOSTS:
        return _json({"error": "ask for 127.0.0.1 or localhost"}, 403)
    response = await handler(request)
    response.headers.update(_SECURITY)
    return response


def _page(name: str) -> Handler:
    async def show(request: web.Request) -> web.Response:
        return web.Response(body=(_PAGES / name).read_bytes(), content_type=_TYPES[Path(name).suffix], charset="utf-8")

    return show


def _summary(entry: Entry) -> dict[str, Any]:
    return {
        "n": entry.n,
        "at": entry.at,
        "esp": entry.esp,
        "attempt_id": entry.attempt_id,
        "message_id": entry.message_id,
        "recipient": entry.recipient,
        "subject": entry.subject,
        "request": entry.request,
    }


def _content(mail: Mail) -> dict[str, Any]:
    return {
        "subject": mail.subject,
        "html": mail.html,
        "text": mail.text,
        "headers": [list(header) for header in mail.headers],
        "metadata": dict(mail.metadata),
        "attachments": [{"name": part.name, "type": part.content_type, "size_bytes": part.size_bytes} for part in mail.attachments],
    }


def _number(text: str | None, name: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise web.HTTPBadRequest(text=f"{name} must be a number")
    return int(text)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
