"""The jars of an Apache Kafka broker, resolved by Maven once and kept in a cache folder."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OLDER_VERSION", "VERSION", "KafkaJars", "NoKafkaError", "alone", "obtain", "why_not"]

VERSION = "4.3.0"
"""What ``make test`` runs against."""
OLDER_VERSION = "3.9.1"
"""The last release line before 4.0 removed old protocol versions; for ``make test-long``."""

_OLDEST_JAVA = 17
_DOWNLOAD_S = 300
_PROBE_S = 30

_POM = """\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>slstream.tests</groupId>
  <artifactId>kafka-broker</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-core</artifactId>
      <version>2.24.3</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>2.24.3</version>
    </dependency>
  </dependencies>
</project>
"""


class NoKafkaError(Exception):
    """No broker can be had here; the text says what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaJars:
    """The jars of one version, and the Java to run them with."""

    version: str
    folder: Path
    java: str
    java_version: str

    @property
    def class_archive(self) -> Path:
        """Where the JVM's archive of loaded classes lies, if somebody made it."""
        return self.folder.parent / f"{self.folder.name}-classes-{self.java_version}.jsa"

    def command(
        self, main_class: str, arguments: Sequence[str], *, options: Sequence[str] = ()
    ) -> list[str]:
        """The command line that runs a class of these jars, with JVM options of yours."""
        archive = self.class_archive
        if archive.exists():  # the start of a broker takes half the time
            options = [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", *options]
        # An archive holds for exactly one class path, so no wildcard: its order is not fixed.
        class_path = os.pathsep.join(str(jar) for jar in sorted(self.folder.glob("*.jar")))
        return [self.java, *options, "-cp", class_path, main_class, *arguments]


def why_not(version: str = VERSION) -> str | None:
    """What keeps a broker from being run as a process here; cheap, and asks no network."""
    java = shutil.which("java")
    if java is None:
        return (
            f"java is not on PATH: install Java {_OLDEST_JAVA} or newer (openjdk-17-jre-headless)"
        )
    found = _java_version(java)
    if found is None or int(found.partition(".")[0]) < _OLDEST_JAVA:
        return f"expected Java {_OLDEST_JAVA} or newer, found {found or 'no version'} ({java})"
    if shutil.which("mvn") is None and not _folder_of(version).is_dir():
        return (
            "mvn is not on PATH: install Maven (package maven), which fetches the broker's jars, "
            f"or set SLSTREAM_KAFKA_JARS to a folder that holds them in a subfolder {version}"
        )
    return None


def obtain(version: str = VERSION) -> KafkaJars:
    """The jars of a version: those of the cache folder, else fetched into it.

    The cache folder is ``SLSTREAM_KAFKA_JARS``, by default ``slstream/kafka`` in the user's cache.
    Any number of processes may call this at once: one fetches, and a folder of jars appears whole
    or not at all.

    Raises:
        NoKafkaError: Java or Maven is missing, or the download failed.
    """
    java = shutil.which("java")
    java_version = _java_version(java) if java else None
    folder = _folder_of(version)
    if (reason := why_not(version)) or java is None or java_version is None:
        raise NoKafkaError(reason)
    if not folder.is_dir():
        with alone(folder.parent / f"{version}.lock"):
            if not folder.is_dir():
                _fetch(version, folder)
    return KafkaJars(version=version, folder=folder, java=java, java_version=java_version)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock file, created when needed; the kernel frees it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(version: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{version}-") as scratch:
        pom = Path(scratch, "pom.xml")
        pom.write_text(_POM.format(version=version))
        jars = Path(scratch, "jars")
        command = ["mvn", "--batch-mode", "--quiet", "--file", str(pom)]
        command += ["dependency:copy-dependencies", "-DincludeScope=runtime"]
        command += [f"-DoutputDirectory={jars}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_S
            )
        except subprocess.TimeoutExpired:
            raise NoKafkaError(_no_download(version, f"nothing after {_DOWNLOAD_S} s")) from None
        if done.returncode or not any(jars.glob("kafka_2.13-*.jar")):
            said = (done.stdout + done.stderr).strip()[-1000:]
            raise NoKafkaError(_no_download(version, said or f"exit status {done.returncode}"))
        jars.rename(folder)


def _no_download(version: str, said: str) -> str:
    return (
        f"Maven could not fetch the jars of Kafka {version}: {said}\n"
        f"Check that Maven reaches its repository (its settings.xml may name a mirror or proxy), "
        f"or set SLSTREAM_KAFKA_JARS to a folder that holds the jars in a subfolder {version}."
    )


def _folder_of(version: str) -> Path:
    chosen = os.environ.get("SLSTREAM_KAFKA_JARS")
    if chosen:
        return Path(chosen).absolute() / version
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "slstream", "kafka", version)


@functools.cache
def _java_version(java: str) -> str | None:
    """Such as ``17.0.15``; None if the program does not tell."""
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=False, timeout=_PROBE_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(\d+[\d.]*)', done.stderr)
    return found[1].rstrip(".") if found else None
