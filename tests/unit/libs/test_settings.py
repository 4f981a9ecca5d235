from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from libs.settings import Address, Described, Secret, SettingsError, describe, env, load


class Role(StrEnum):
    HTTP = "http"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Settings:
    shop: str = env("SHOP", "which shop")
    token: Secret = env("TOKEN", "what opens it")
    key: Secret | None = env("KEY", "what seals", default=None)
    workers: int = env("WORKERS", "processes", default=2, least=1, most=64)
    grace_s: float = env("GRACE_S", "seconds to finish work", default=20.0, least=0)
    shadow: bool = env("SHADOW", "map and do not send", default=False)
    folder: Path | None = env("FOLDER", "where files go", default=None)
    urls: tuple[str, ...] = env("URLS", "servers", default=("a", "b"))
    role: Role = env("ROLE", "what to run", default=Role.ALL)
    address: Address = env("ADDRESS", "where to listen", default=Address("127.0.0.1", 8080))


NEEDED = {"TIDEWIRE_SHOP": "s", "TIDEWIRE_TOKEN": "hunter2"}


def problems_of(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(Settings, environ)
    return caught.value.problems


def test_each_type_is_read_from_its_variable() -> None:
    environ = NEEDED | {
        "TIDEWIRE_WORKERS": "4",
        "TIDEWIRE_GRACE_S": "1.5",
        "TIDEWIRE_SHADOW": "TRUE",
        "TIDEWIRE_FOLDER": "/tmp/x",  # noqa: S108  only a name
        "TIDEWIRE_URLS": "nats://a, nats://b,",
        "TIDEWIRE_ROLE": "http",
        "TIDEWIRE_ADDRESS": "[::1]:9000",
        "TIDEWIRE_KEY": "k",
    }

    loaded = load(Settings, environ)

    assert loaded == Settings(
        shop="s",
        token=Secret("hunter2"),
        key=Secret("k"),
        workers=4,
        grace_s=1.5,
        shadow=True,
        folder=Path("/tmp/x"),  # noqa: S108  only a name
        urls=("nats://a", "nats://b"),
        role=Role.HTTP,
        address=Address("::1", 9000),
    )


def test_absent_and_empty_variables_mean_the_default() -> None:
    loaded = load(Settings, NEEDED | {"TIDEWIRE_WORKERS": ""})

    assert (loaded.workers, loaded.urls, loaded.folder, loaded.key) == (2, ("a", "b"), None, None)


def test_every_bad_variable_is_reported_in_one_error_without_its_value() -> None:
    environ = {
        "TIDEWIRE_TOKEN": "hunter2",
        "TIDEWIRE_WORKERS": "lots-of-pw",
        "TIDEWIRE_GRACE_S": "nan",
        "TIDEWIRE_SHADOW": "perhaps-pw",
        "TIDEWIRE_ROLE": "none-pw",
        "TIDEWIRE_ADDRESS": "8080-pw",
    }

    problems = problems_of(environ)

    assert [problem.split()[0] for problem in problems] == [
        "TIDEWIRE_SHOP",
        "TIDEWIRE_WORKERS",
        "TIDEWIRE_GRACE_S",
        "TIDEWIRE_SHADOW",
        "TIDEWIRE_ROLE",
        "TIDEWIRE_ADDRESS",
    ]
    assert not [problem for problem in problems if "pw" in problem or "hunter2" in problem]


@pytest.mark.parametrize(("workers", "reason"), [("0", "below 1"), ("65", "above 64")])
def test_a_number_out_of_bounds_is_reported(workers: str, reason: str) -> None:
    problems = problems_of(NEEDED | {"TIDEWIRE_WORKERS": workers})

    assert problems == (f"TIDEWIRE_WORKERS is {reason}",)


def test_a_secret_from_a_file_beats_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")

    loaded = load(Settings, NEEDED | {"TIDEWIRE_TOKEN_FILE": str(file)})

    assert loaded.token.reveal() == "from-file"


def test_an_optional_secret_may_come_from_a_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sealed")

    loaded = load(Settings, NEEDED | {"TIDEWIRE_KEY_FILE": str(file)})

    assert loaded.key == Secret("sealed")


def test_an_unreadable_secret_file_is_a_problem_and_no_fallback(tmp_path: Path) -> None:
    problems = problems_of(NEEDED | {"TIDEWIRE_TOKEN_FILE": str(tmp_path / "absent")})

    assert problems == (
        "TIDEWIRE_TOKEN names a file that cannot be read (No such file or directory)",
    )


def test_a_secret_never_prints() -> None:
    secret = Secret("hunter2")
    loaded = load(Settings, NEEDED)

    printed = [repr(secret), str(secret), f"{secret}", f"{secret:>20}", "%s" % secret, repr(loaded)]  # noqa: UP031

    assert not [text for text in printed if "hunter2" in text]
    assert repr(secret) == "Secret(…)"


def test_secrets_are_equal_by_value_and_to_secrets_only() -> None:
    assert Secret("ä") == copy.deepcopy(Secret("ä"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


def test_the_reference_has_a_row_for_each_variable() -> None:
    rows = {row.variable: row for row in describe(Settings)}

    assert rows["TIDEWIRE_SHOP"] == Described("TIDEWIRE_SHOP", "which shop", "(required)")
    assert rows["TIDEWIRE_URLS"].default == "a,b"
    assert rows["TIDEWIRE_SHADOW"].default == "false"
    assert rows["TIDEWIRE_ADDRESS"].default == "127.0.0.1:8080"
    assert rows["TIDEWIRE_KEY"].default == "(none)"
    assert len(rows) == 10


def test_a_field_of_an_unknown_type_is_a_mistake_in_the_code() -> None:
    @dataclass(frozen=True)
    class Odd:
        when: complex = env("WHEN", "never", default=1j)

    with pytest.raises(TypeError, match="complex"):
        load(Odd, {})


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:80", True),
        ("127.9.9.9:0", True),
        ("localhost:80", True),
        ("[::1]:80", True),
        ("0.0.0.0:80", False),
        ("[::]:80", False),
        ("10.0.0.1:80", False),
        ("ingest:80", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(text: str, *, loopback: bool) -> None:
    address = Address.parse(text)

    assert address.is_loopback is loopback
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "80", ":80", "host:", "host:x", "host:65536", "::1:80", "[a]:80", "h:-1", "h:\u0663"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)
