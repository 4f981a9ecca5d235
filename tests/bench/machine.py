"""What the run stands on, and what processes take of it: read from /proc, asked of nobody."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.figures import percentile

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MIB: Final = 1024 * 1024
QUIET_LOAD: Final = 0.5


def cpu_s(pids: Sequence[int]) -> float:
    """Processor seconds, user and system, that the processes have used so far.

    One that has ended counts 0.0: read it before it ends.
    """
    return sum(map(_cpu_s, pids))


def rss_mib(pids: Sequence[int]) -> float:
    """Resident memory of the processes now."""
    return sum(map(_rss_bytes, pids)) / _MIB


class CpuMeter:
    """Cores used by groups of processes since it was made."""

    def __init__(self, groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = groups
        self._began_s = time.monotonic()
        self._before = {name: cpu_s(pids) for name, pids in groups.items()}

    def cores(self) -> dict[str, float]:
        """1.0 is one core kept busy all the time."""
        elapsed_s = max(time.monotonic() - self._began_s, 1e-9)
        return {
            name: (cpu_s(pids) - self._before[name]) / elapsed_s
            for name, pids in self._groups.items()
        }


def description(store: Path) -> dict[str, str]:
    """The machine in words, with the price of one sync of its disk."""
    syncs_us = [one * 1e6 for one in sync_times_s(store)]
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}, Python {sys.version.split()[0]}",
        "nats-server": _nats_version(),
        "one write and fsync of 4 KiB": f"p50 {percentile(syncs_us, 0.5):,.0f} us,"
        f" p99 {percentile(syncs_us, 0.99):,.0f} us",
        "load average at the start": " ".join(f"{one:.2f}" for one in os.getloadavg()),
    }


def words() -> str:
    """The machine in one line, without anything that changes between two runs."""
    python = sys.version.split()[0]
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {python},"
        f" nats-server {_nats_version()}"
    )


def warnings() -> tuple[str, ...]:
    """What makes the figures of this run doubtful."""
    load = os.getloadavg()[0]
    if load <= QUIET_LOAD:
        return ()
    return (f"the machine was not quiet (load {load:.2f}): only ratios mean anything",)


def sync_times_s(directory: Path, count: int = 100) -> list[float]:
    """How long each of `count` writes of 4 KiB takes to reach the disk that holds `directory`.

    Some file systems (in memory, or with syncing switched off) answer in microseconds: then
    `always` costs nothing there, and the comparison of fsync modes says nothing.
    """
    times = []
    path = directory / "sync-probe"
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            began_s = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began_s)
    path.unlink()
    return times


def _cpu_s(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # The name in brackets may hold spaces; user and system time are the 12th and 13th after it.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _rss_bytes(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * _PAGE_BYTES


def _nats_version() -> str:
    beside_python = Path(sys.executable).with_name("nats-server")
    found = str(beside_python) if beside_python.exists() else shutil.which("nats-server")
    if found is None:
        return "not found"
    said = subprocess.run(  # noqa: S603 - our own binary
        [found, "--version"], capture_output=True, text=True, check=False
    )
    return said.stdout.strip().removeprefix("nats-server: ")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "unknown processor")
