"""The exporter's front page: what a person wants to see at one glance, and where the machines' pages are.

It only shows what it is given, and escapes all of it.
"""

from collections.abc import Iterable
from html import escape

from telemetry.health import Finding, Health
from telemetry.scrape import GaugeSample

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667085; --line: #e4e7ec;
  --card: #fff; --ground: #f6f7f9; --good: #067647; --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2b3340; --card: #171c24;
  --ground: #0f1319; --good: #47cd89; --bad: #f97066; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem }
header { display: flex; align-items: center; gap: .9rem; flex-wrap: wrap; margin-bottom: 1.5rem }
h1 { font-size: 1.5rem; margin: 0; letter-spacing: -.01em }
h2 { font-size: .8rem; text-transform: uppercase; letter-spacing: .06em; color: var(--soft); margin: 0 0 .6rem }
.pill { padding: .15rem .7rem; border-radius: 99px; font-weight: 600; font-size: .85rem; border: 1px solid currentColor }
.ok { color: var(--good) } .failing { color: var(--bad) }
nav { margin-left: auto; display: flex; gap: 1rem; flex-wrap: wrap }
a { color: inherit; text-underline-offset: .2em }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.1rem 1.25rem; margin-bottom: 1rem; overflow-x: auto }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums }
td { padding: .35rem .5rem .35rem 0; border-top: 1px solid var(--line); vertical-align: top }
tr:first-child td { border-top: 0 }
td:last-child { text-align: right }
.soft { color: var(--soft) }
"""
_LINKS = (("/metrics", "metrics"), ("/health", "health"), ("/health/live", "live"), ("/health/ready", "ready"))


def render(name: str, health: Health, samples: Iterable[GaugeSample]) -> bytes:
    """The page, as UTF-8: `name` is the worker's, `samples` are the numbers read for it."""
    samples = list(samples)
    processes = [sample for sample in samples if sample.name == "email_worker_up"]
    numbers = [sample for sample in samples if sample.name != "email_worker_up"]
    sections = [
        _section("Checks", map(_check_row, health.findings)),
        _section("Processes", map(_process_row, processes)),
        _section("Numbers", map(_number_row, numbers)),
    ]
    links = "".join(f'<a href="{path}">{text}</a>' for path, text in _LINKS)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10"><title>{escape(name)} · {health.status}</title><style>{_STYLE}</style></head>
<body><main><header><h1>{escape(name)}</h1><span class="pill {health.status}">{health.status}</span><nav>{links}</nav></header>
{"".join(sections)}
</main></body></html>
"""
    return page.encode(errors="replace")


def _section(title: str, rows: Iterable[str]) -> str:
    body = "".join(rows)
    return f"<section><h2>{title}</h2><table>{body}</table></section>" if body else ""


def _check_row(finding: Finding) -> str:
    status = "ok" if finding.problem is None else "failing"
    took = "" if finding.took_s is None else f"{finding.took_s * 1000:.0f} ms"
    return _row(f"<strong>{escape(finding.name)}</strong>", escape(finding.problem or took), f'<span class="{status}">{status}</span>')


def _process_row(sample: GaugeSample) -> str:
    state = '<span class="ok">up</span>' if sample.value else '<span class="failing">down</span>'
    return _row(f"<strong>{escape(sample.labels['role'])}</strong>", f"slot {escape(sample.labels['slot'])}", state)


def _number_row(sample: GaugeSample) -> str:
    labels = ", ".join(f"{key} {value}" for key, value in sample.labels.items())
    return _row(escape(sample.name), escape(labels), f"{sample.value:,.6g}")


def _row(what: str, detail: str, state: str) -> str:
    return f'<tr><td>{what}</td><td class="soft">{detail}</td><td>{state}</td></tr>'
