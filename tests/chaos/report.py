"""What a chaos run says to a person: which servers it met, one column for each run, and what is wrong below."""

from collections.abc import Mapping, Sequence
from contextlib import closing

import psycopg2
import redis

from sandbox import kafka_jars
from sandbox.apache_kafka import ApacheKafka
from sandbox.world import World
from tests.chaos.nemesis import ANYWHERE, IN_COMMIT
from tests.chaos.run import POINTS, Result
from tests.chaos.storm import Storm, count_workers
from tests.chaos.weather import FAULTS, INTAKE_POINTS, OTHER_PLACES


def servers(world: World) -> str:
    """Which PostgreSQL, Kafka and Redis a world really runs: asked, not assumed."""
    with closing(psycopg2.connect(**world.postgres.parameters())) as connection:
        postgres = connection.get_parameter_status("server_version")
    with redis.Redis.from_url(world.redis.url) as client:
        version = client.info("server")["redis_version"]  # type: ignore[index]
    kafka = f"Apache Kafka {kafka_jars.VERSION}" if isinstance(world.kafka, ApacheKafka) else "librdkafka's mock of Kafka"
    return f"  PostgreSQL {postgres}, {kafka}, Redis {version} ({world.redis.kind})"


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


def storm_table(storm: Storm, elapsed_s: float) -> str:
    """The plan that came from the seed, what happened, and the numbers that have to be 0."""
    deaths = {place: storm.kills[place] for place in sorted(storm.kills) if place not in OTHER_PLACES}
    found = storm.verdict.findings
    rows = [
        ("seed", str(storm.seed)),
        ("plan", "; ".join(map(str, storm.plan))),
        ("emails asked for", str(storm.verdict.emails)),
        ("came by", _words(storm.ways)),
        ("calls that failed", f"{sum(FAULTS.values()):.0%}, in {len(FAULTS)} ways"),
        ("workers killed", f"{count_workers(storm.kills)}: {_words(deaths)}"),
        ("intakes killed", _words({point: storm.kills[point] for point in INTAKE_POINTS})),
        ("troubles", _words(storm.troubles) + ", host frozen past its lease 1"),
        ("in doubt, explained", str(storm.verdict.uncertain - len(found["unexplained"]))),
        ("operator", _words(storm.done)),
        *((check, str(len(found[check]))) for check in ("lost", "doubled", "unexplained", "zombie", "unheard")),
        ("slowest return, s", f"{storm.verdict.slowest_s:.1f}"),
        ("seconds", ", ".join(f"{phase} {seconds:.0f}" for phase, seconds in storm.seconds.items()) + f"; in all {elapsed_s:.0f}"),
        ("red", ", ".join(storm.red) or "nothing"),
    ]
    return "\n".join(f"  {title:<22}{words}" for title, words in rows)


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
