"""What a chaos run says to a person: one column for each run, and what is wrong below."""

from collections.abc import Sequence

from tests.chaos.nemesis import ANYWHERE, IN_COMMIT
from tests.chaos.run import POINTS, Result


def table(results: Sequence[Result], elapsed_s: float) -> str:
    """Deaths by place, emails, doubts, and the two numbers that have to be 0."""
    rows: list[tuple[str, list[str]]] = [("seed", [str(result.seed) for result in results])]
    for place in (*POINTS, IN_COMMIT, ANYWHERE):
        rows.append((f"killed {place}", [str(result.kills[place]) for result in results]))
    rows += [
        ("killed in all", [str(result.kills.total()) for result in results]),
        ("emails asked for", [str(result.verdict.emails) for result in results]),
        ("uncertain, explained", [str(result.verdict.uncertain - len(result.verdict.findings["unexplained"])) for result in results]),
        ("unexplained", [str(len(result.verdict.findings["unexplained"])) for result in results]),
        ("lost", [str(len(result.verdict.findings["lost"])) for result in results]),
        ("doubled", [str(len(result.verdict.findings["doubled"])) for result in results]),
        ("slowest return, s", [f"{result.verdict.slowest_s:.1f}" for result in results]),
        ("killing, settling, s", [f"{result.killing_s:.0f} + {result.settling_s:.0f}" for result in results]),
        ("red", [", ".join(result.red) or "nothing" for result in results]),
    ]
    lines = [f"  {title:<22}" + "".join(f"{cell:>12}" for cell in cells) + _sum(title, cells) for title, cells in rows]
    return "\n".join([*lines, f"  in {elapsed_s:.0f} s"])


def _sum(title: str, cells: Sequence[str]) -> str:
    if title == "seed":
        return f"{'together':>12}" if len(cells) > 1 else ""
    return f"{sum(map(int, cells)):>12}" if len(cells) > 1 and all(cell.isdigit() for cell in cells) else ""
