"""Apache Kafka's jars, fetched once by Maven into a cache that every run of the tests shares.

It must never show a half-filled cache to another process: the folder is filled under another name, then renamed.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "4.1.0"
FETCH_LIMIT_S = 600
# log4j-slf4j-impl is no dependency of Kafka's: without it, SLF4J throws away what Kafka has to say when it does not start
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>email-worker</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version></dependency>
  </dependencies>
</project>
"""


def default_cache() -> Path:
    """$XDG_CACHE_HOME, else ~/.cache, then email-worker/kafka-<version>."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "email-worker" / f"kafka-{VERSION}"


def missing_programs(cache: Path | None = None) -> list[str]:
    """What has to be installed before Kafka can run: java, and mvn where the jars are not cached yet."""
    needed = ["java"] if is_cached(cache or default_cache()) else ["java", "mvn"]
    return [program for program in needed if shutil.which(program) is None]


def is_cached(cache: Path) -> bool:
    return (cache / f"kafka_2.13-{VERSION}.jar").exists()


def fetch_jars(cache: Path | None = None) -> Path:
    """The folder of the jars, about 55 MB, fetched where it is missing; raises CalledProcessError with Maven's output."""
    target = cache or default_cache()
    if is_cached(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _sole_fetcher(target):
        if not is_cached(target):
            _fill(target)
    return target


@contextmanager
def _sole_fetcher(target: Path) -> Iterator[None]:
    with open(target.with_name(target.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fill(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{target.name}-", dir=target.parent) as made:
        folder = Path(made)
        (folder / "pom.xml").write_text(POM)
        run_maven(folder, folder / "libs")
        shutil.rmtree(target, ignore_errors=True)
        (folder / "libs").rename(target)


def run_maven(folder: Path, libs: Path) -> None:
    """Copy the jars that the pom of this folder names, and all that they need, into `libs`."""
    command = ["mvn", "-B", "-q", "-f", str(folder / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={libs}"]
    subprocess.run(command, cwd=folder, check=True, timeout=FETCH_LIMIT_S, capture_output=True, text=True)
