"""Every house rule, held against the source, one sample that passes and one that fails."""

from __future__ import annotations

from functools import cache
from pathlib import Path, PurePosixPath

import pytest

from tests.arch import rules
from tests.arch.rules import RULES, Rule, SourceFile

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("libs", "services", "cli", "sandbox", "tests", "tools")

# rule: (path, text that passes), (path, text that fails)
SAMPLES: dict[Rule, tuple[tuple[str, str], tuple[str, str]]] = {
    rules.environment_read_outside_entry_points: (
        ("services/x/__main__.py", "import os\nsettings = load(os.environ)\n"),
        ("services/x/wiring.py", "import os\nurl = os.environ['URL']\n"),
    ),
    rules.time_read_outside_the_clock: (
        ("libs/x.py", "def age(clock): return clock.now_ns()\n"),
        ("libs/x.py", "import datetime\nnow = datetime.datetime.now(datetime.UTC)\n"),
    ),
    rules.chance_outside_ids: (
        ("sandbox/x.py", "import random\nchance = random.Random(7)\nchance.choice([1])\n"),
        ("sandbox/x.py", "import random\nrandom.choice([1])\n"),
    ),
    rules.http_session_outside_the_client: (
        ("libs/http/client.py", "import aiohttp\nsession = aiohttp.ClientSession()\n"),
        (
            "services/x/adapters/y.py",
            "from aiohttp import ClientSession\nsession = ClientSession()\n",
        ),
    ),
    rules.logger_outside_telemetry: (
        ("libs/telemetry/logs.py", "import logging\nroot = logging.getLogger()\n"),
        ("libs/bus/x.py", "import logging\nlog = logging.getLogger(__name__)\n"),
    ),
    rules.log_event_that_varies: (
        ("libs/x.py", "log.info('order_stored', order_id=order_id)\n"),
        ("libs/x.py", "self._log.info(f'order {order_id} stored')\n"),
    ),
    rules.function_too_long: (
        ("libs/x.py", "def f():\n" + "    g()\n" * 69),
        ("libs/x.py", "def f():\n" + "    g()\n" * 70),
    ),
    rules.file_too_long: (
        ("libs/x.py", "x = 1\n" * 500),
        ("libs/x.py", "x = 1\n" * 501),
    ),
    rules.test_that_claims_nothing: (
        ("tests/test_x.py", "def test_x():\n    with pytest.raises(ValueError):\n        f()\n"),
        ("tests/test_x.py", "def test_x():\n    f()\n"),
    ),
    rules.patched_object: (
        ("tests/test_x.py", "from tests.fakes.shop import FakeShop\n"),
        ("tests/test_x.py", "from unittest.mock import patch\n"),
    ),
    rules.naked_todo: (
        ("libs/x.py", "# TODO(#41): 50 until the export lands.\n"),
        ("libs/x.py", "x = 1  # TODO: larger\n"),
    ),
    rules.await_in_the_domain: (
        ("services/x/domain/y.py", "def f() -> int:\n    return 1\n"),
        ("services/x/domain/y.py", "async def f() -> int:\n    return 1\n"),
    ),
}

# Further ways round a rule, each of which must be caught.
EVASIONS: tuple[tuple[Rule, str, str], ...] = (
    (rules.environment_read_outside_entry_points, "libs/x.py", "from os import environ\n"),
    (rules.environment_read_outside_entry_points, "libs/x.py", "import os\nos.getenv('X')\n"),
    (rules.time_read_outside_the_clock, "cli/x.py", "import time\nnow = time.time()\n"),
    (rules.time_read_outside_the_clock, "cli/x.py", "from time import time_ns\n"),
    (rules.time_read_outside_the_clock, "libs/x.py", "day = date.today()\n"),
    (rules.chance_outside_ids, "libs/x.py", "from random import shuffle\n"),
    (rules.chance_outside_ids, "libs/x.py", "from random import Random\nr = Random(1)\n"),
    (
        rules.http_session_outside_the_client,
        "libs/x.py",
        "import aiohttp\naiohttp.ClientSession()\n",
    ),
    (rules.log_event_that_varies, "libs/x.py", "log.error('failed ' + name)\n"),
    (rules.log_event_that_varies, "libs/x.py", "log.error('failed {}'.format(name))\n"),
    (rules.function_too_long, "libs/x.py", "async def f():\n" + "    g()\n" * 70),
    (rules.test_that_claims_nothing, "tests/test_x.py", "async def test_x():\n    await f()\n"),
    (rules.patched_object, "tests/x.py", "import unittest.mock\n"),
    (rules.naked_todo, "libs/x.py", "# FIXME(#3): soon\n"),
)


def _name(rule: Rule) -> str:
    return rule.__name__


def _sample(path: str, text: str) -> SourceFile:
    return SourceFile(PurePosixPath(path), text)


@cache
def _source() -> tuple[SourceFile, ...]:
    files = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return tuple(
        SourceFile(PurePosixPath(path.relative_to(ROOT).as_posix()), path.read_text())
        for path in files
    )


@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_the_source_keeps_the_rule(rule: Rule) -> None:
    broken = [f"{file.path}:{line}" for file in _source() for line in rule(file)]

    assert not broken, f"{rule.__doc__}\n" + "\n".join(broken)


@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_the_rule_tells_a_good_sample_from_a_bad_one(rule: Rule) -> None:
    good, bad = (_sample(*sample) for sample in SAMPLES[rule])

    assert list(rule(good)) == []
    assert list(rule(bad)) != []


@pytest.mark.parametrize(("rule", "path", "text"), EVASIONS)
def test_a_way_round_a_rule_is_caught(rule: Rule, path: str, text: str) -> None:
    assert list(rule(_sample(path, text))) != []


def test_the_source_is_found() -> None:
    paths = {str(file.path) for file in _source()}

    assert {"libs/errors.py", "tools/gen.py", "tests/arch/rules.py"} <= paths
