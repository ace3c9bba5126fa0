"""Apache Kafka's jars and the Java that runs them: found, or fetched once into `.kafka/` of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
POM = Path(__file__).with_name("kafka.pom.xml")
# Debian's packages, by the program that each brings.
_PACKAGES = {"java": "default-jre-headless", "mvn": "maven"}
_FETCH_SECONDS = 600


class KafkaMissing(Exception):
    """No Kafka can be run here; the text says what to install."""


def find_java() -> str:
    """The Java program. Raises KafkaMissing."""
    return _program("java")


def find_jars() -> Path:
    """The folder with the jars, fetched at the first call. Raises KafkaMissing. Safe to call from several processes."""
    folder = CHECKOUT / ".kafka" / "jars"
    if _is_current(folder):
        return folder
    folder.parent.mkdir(exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix="fetching-"))
    try:
        _fetch(beside)
        shutil.copy(POM, beside / POM.name)  # last: the folder is whole
        if not _is_current(folder):
            shutil.rmtree(folder, ignore_errors=True)
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _is_current(folder: Path) -> bool:
    copy = folder / POM.name
    return copy.exists() and copy.read_bytes() == POM.read_bytes()


def _fetch(folder: Path) -> None:
    command = [
        _program("mvn"),
        "-q",
        "-B",
        "-f",
        str(POM),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={folder}",
    ]
    done = subprocess.run(command, capture_output=True, timeout=_FETCH_SECONDS)
    if done.returncode:
        raise KafkaMissing(f"Maven could not fetch Apache Kafka: {(done.stdout + done.stderr).decode()[-1000:]}")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", _PACKAGES[name]]
        subprocess.run(command, capture_output=True, env=environment, timeout=_FETCH_SECONDS)
        found = shutil.which(name)
    if found is None:
        raise KafkaMissing(
            f"Apache Kafka needs {name}, which is not here; install it (Debian: apt-get install {_PACKAGES[name]})"
        )
    return found
