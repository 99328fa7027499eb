"""The inbox: its JSON, its switchboard, and that a mail's content never gets loose."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.fakes.serving import SENDGRID_HEADERS, Served, mail, serving

PAGES = Path(__file__).resolve().parents[2] / "sandbox" / "pages"


def run(folder: Path, scenario: Callable[[Served], Awaitable[None]], **options: Any) -> None:
    async def whole() -> None:
        async with serving(folder, **options) as served:
            await scenario(served)

    asyncio.run(whole())


async def post_sendgrid(served: Served, address: str) -> None:
    body = {
        "personalizations": [{"to": [{"email": address}], "substitutions": {"-n-": "Ann"}, "custom_args": {"attempt_id": "0" * 26}}],
        "from": {"email": "m@b.test"},
        "subject": "Hi -n-",
        "content": [{"type": "text/plain", "value": "Dear -n-"}, {"type": "text/html", "value": "<p>Dear -n-</p>"}],
    }
    async with served.client.post(served.urls["sendgrid"] + "/v3/mail/send", json=body, headers=SENDGRID_HEADERS) as reply:
        assert reply.status == 202


def test_mails_are_listed_newest_first_with_their_counts(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        assert (await served.inbox("/api/mails"))["mails"] == []
        await post_sendgrid(served, "a@x.test")
        await served.postmark(mail("b@x.test"), mail("c@x.test"))
        found = await served.inbox("/api/mails")
        assert [(one["n"], one["esp"], one["recipient"]) for one in found["mails"]] == [
            (3, "postmark", "c@x.test"),
            (2, "postmark", "b@x.test"),
            (1, "sendgrid", "a@x.test"),
        ]
        assert found["counts"]["sendgrid"] == 1
        assert found["counts"]["postmark"] == 2
        assert (found["newest"], found["older"]) == (3, None)

    run(tmp_path, scenario)


def test_a_search_finds_parts_of_a_recipient_in_any_case_and_one_esp(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        await post_sendgrid(served, "Ann@x.test")
        await served.postmark(mail("ann@y.test"), mail("bob@x.test"))
        assert [one["n"] for one in (await served.inbox("/api/mails?recipient=ANN"))["mails"]] == [2, 1]
        assert [one["n"] for one in (await served.inbox("/api/mails?recipient=ann&esp=postmark"))["mails"]] == [2]
        assert (await served.inbox("/api/mails?esp=nobody"))["mails"] == []

    run(tmp_path, scenario)


def test_pages_follow_each_other_without_gap_or_repeat_while_mail_arrives(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        await served.postmark(*[mail(f"u{n}@x.test") for n in range(25)])
        seen: list[int] = []
        before: Any = ""
        while before is not None:
            page = await served.inbox(f"/api/mails?limit=10&before={before}")
            seen += [one["n"] for one in page["mails"]]
            before = page["older"]
            await served.postmark(mail("late@x.test"))
        assert seen == list(range(25, 0, -1))

    run(tmp_path, scenario)


def test_one_mail_is_shown_as_its_recipient_sees_it(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        await post_sendgrid(served, "ann@x.test")
        shown = await served.inbox("/api/mails/1")
        assert (shown["attempt_id"], shown["request"], shown["subject"]) == ("0" * 26, 1, "Hi Ann")
        assert shown["message_id"] == served.ledger("sendgrid")[0]["message_id"]
        assert (shown["content"]["html"], shown["content"]["text"]) == ("<p>Dear Ann</p>", "Dear Ann")
        assert ["To", "ann@x.test"] in shown["content"]["headers"]

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("path", "status"), [("/api/mails/9", 404), ("/api/mails/x", 404), ("/api/mails?before=x", 400), ("/api/mails?limit=-1", 400)]
)
def test_nonsense_is_refused(tmp_path: Path, path: str, status: int) -> None:
    async def scenario(served: Served) -> None:
        async with served.client.get(served.urls["inbox"] + path) as reply:
            assert reply.status == status

    run(tmp_path, scenario)


def test_only_the_newest_are_kept_and_the_counts_go_on(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        await served.postmark(*[mail(f"u{n}@x.test") for n in range(30)])
        found = await served.inbox("/api/mails?limit=500")
        assert len(found["mails"]) == 10
        assert found["counts"]["postmark"] == 30
        assert "error" in await served.inbox("/api/mails/1")

    run(tmp_path, scenario, mails_kept=10)


def test_the_switchboard_changes_one_esp_or_all(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        assert (await served.control(esp="postmark", throttle=1))["postmark"]["throttle"] == 1
        assert (await served.postmark(mail()))[0] == 429
        assert (await served.inbox("/control"))["sendgrid"]["throttle"] == 0
        everything = await served.control(esp="*", calm=True)
        assert everything["postmark"]["throttle"] == 0
        assert (await served.postmark(mail()))[0] == 200

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "changes", [{}, {"esp": "nobody"}, {"esp": "postmark", "throttle": 5}, {"esp": 5}, {"esp": "postmark", "nonsense": 1}]
)
def test_the_switchboard_refuses_nonsense_and_says_why(tmp_path: Path, changes: dict[str, Any]) -> None:
    async def scenario(served: Served) -> None:
        reply = await served.control(**changes)
        assert reply["status"] == 400
        assert reply["error"]

    run(tmp_path, scenario)


def test_the_switchboard_changes_all_or_none(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        assert (await served.control(esp="*", drip=0.5))["status"] == 400
        assert {one["drip"] for one in (await served.inbox("/control")).values()} == {0}

    run(tmp_path, scenario, sendgrid={"throttle": 0.9})


def test_a_form_of_another_site_cannot_throw_a_switch(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        for content_type in ("text/plain", "application/x-www-form-urlencoded"):
            headers = {"Content-Type": content_type}
            async with served.client.post(served.urls["inbox"] + "/control", data=b'{"esp": "*", "down": true}', headers=headers) as reply:
                assert reply.status == 415

    run(tmp_path, scenario)


def test_another_hosts_name_is_refused(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        port = served.urls["inbox"].rpartition(":")[2]
        for host, status in ((f"evil.test:{port}", 403), ("evil.test", 403), (f"localhost:{port}", 200), (f"127.0.0.1:{port}", 200)):
            async with served.client.get(served.urls["inbox"] + "/api/mails", headers={"Host": host}) as reply:
                assert reply.status == status

    run(tmp_path, scenario)


def test_a_hostile_mail_is_only_ever_handed_out_as_json(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script>"

    async def scenario(served: Served) -> None:
        await served.postmark(mail("evil@x.test", Subject=hostile, HtmlBody=hostile))
        for path in ("/", "/inbox.js", "/mail.js", "/parts.js", "/inbox.css", "/api/mails", "/api/mails/1"):
            async with served.client.get(served.urls["inbox"] + path) as reply:
                text = await reply.text()
                assert reply.headers["X-Content-Type-Options"] == "nosniff"
                assert "alert(1)" not in text or reply.content_type == "application/json"

    run(tmp_path, scenario)


def test_the_pages_policy_lets_no_mail_run_load_send_or_go_anywhere(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        async with served.client.get(served.urls["inbox"] + "/") as reply:
            policy = dict(part.strip().split(" ", 1) for part in reply.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["img-src"] == "'self' data:"
        assert {policy[name] for name in ("frame-src", "form-action", "base-uri", "frame-ancestors")} == {"'none'"}

    run(tmp_path, scenario)


def test_the_frame_of_a_mail_has_no_permission_at_all() -> None:
    script = (PAGES / "mail.js").read_text()
    assert 'frame.setAttribute("sandbox", "");' in script
    assert "frame.srcdoc = html;" in script
    assert "allow-" not in script


def test_the_page_never_turns_text_into_markup() -> None:
    script = "\n".join(page.read_text() for page in PAGES.glob("*.js"))
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser", "setHTML"):
        assert danger not in script


def test_the_page_needs_nothing_from_outside() -> None:
    for page in PAGES.iterdir():
        urls = re.findall(r"https?://[^\s\"')]+", page.read_text())
        assert [url for url in urls if not url.startswith("http://www.w3.org/")] == []


def test_the_page_has_no_inline_script_that_its_policy_would_block() -> None:
    page = (PAGES / "inbox.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"\son[a-z]+=", page) == []
