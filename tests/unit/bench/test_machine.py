"""What is read of processes from /proc."""

from __future__ import annotations

import os
import time

from tests.bench.machine import CpuMeter, rss_mib


def test_a_process_that_works_uses_processor_time_and_one_that_is_gone_none() -> None:
    meter = CpuMeter({"us": [os.getpid()], "gone": [2**22 - 1]})
    until_s = time.process_time() + 0.1
    while time.process_time() < until_s:
        pass

    cores = meter.cores()

    assert 0.0 < cores["us"] < 2.0
    assert cores["gone"] == 0.0


def test_resident_memory_is_in_mebibytes_and_adds_up() -> None:
    one = rss_mib([os.getpid()])

    assert 5 < one < 4000
    assert rss_mib([os.getpid(), os.getpid()]) > 1.5 * one
