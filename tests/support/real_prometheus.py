"""A real Prometheus on the loopback interface: Debian's own program, watching itself, with a few alerting rules."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from controller.adapters.kernels.debian import unpack
from controller.adapters.kernels.debian.suites import host_packages
from controller.adapters.local.cache import Cache, no_progress

CONFIG = """\
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs: [{job_name: itself, static_configs: [{targets: ["ADDRESS"]}]}]
"""
RULES = """\
groups:
  - name: tests
    rules:
      - {alert: AlwaysFiring, expr: vector(1), labels: {severity: page}}
      - {alert: NeverFiring, expr: vector(1) > 2, labels: {severity: ticket}}
      - {alert: SeverityPerAlert, expr: vector(1) > 2, labels: {severity: "{{ $labels.severity }}", team: storage}}
"""
READY_TIMEOUT_S = 60.0
_CALL_TIMEOUT_S = 5.0
_LOOK_S = 0.1


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def prometheus_program() -> str:
    """Return the machine's own program, else Debian's, unpacked into the cache: installing it would start a daemon."""
    own = shutil.which("prometheus")
    if own is not None:
        return own
    cache = Cache.from_environment()
    packages = host_packages(cache)
    architecture = packages.architectures[0]
    wanted = packages.versions("prometheus", architecture, no_progress)[:1]
    assert wanted, "Debian offers no package prometheus: install Prometheus, or look at the mirror"

    def build(directory: Path) -> None:
        files = packages.fetch(packages.exact(wanted, architecture, no_progress), no_progress, label="Prometheus")
        unpack(files, directory, no_progress, label="Prometheus")

    return str(cache.publish(f"prometheus/{wanted[0].version}", build) / "usr/bin/prometheus")


@contextmanager
def prometheus(directory: Path) -> Iterator[str]:
    """Run it in the directory; its address once it is ready, has evaluated its rules and scraped itself."""
    address = f"127.0.0.1:{free_port()}"
    (directory / "prometheus.yml").write_text(CONFIG.replace("ADDRESS", address))
    (directory / "rules.yml").write_text(RULES)
    options = ("config.file=prometheus.yml", "storage.tsdb.path=data", f"web.listen-address={address}")
    command = [prometheus_program(), *(f"--{option}" for option in options)]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
    try:
        _await_ready(f"http://{address}", process, directory / "log")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    waiting = threading.Event()
    while not _is_ready(url):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        waiting.wait(_LOOK_S)


def _is_ready(url: str) -> bool:
    try:
        if not requests.get(f"{url}/-/ready", timeout=_CALL_TIMEOUT_S).ok:
            return False
        rules = _data(f"{url}/api/v1/rules")["groups"][0]["rules"]
        scraped = _data(f"{url}/api/v1/query?query=up")["result"]
    except requests.RequestException:
        return False
    return bool(scraped) and bool(rules[0]["alerts"]) and all(rule["health"] == "ok" for rule in rules)


def _data(url: str) -> Any:
    return requests.get(url, timeout=_CALL_TIMEOUT_S).json()["data"]
