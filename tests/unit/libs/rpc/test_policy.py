from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from libs.rpc.policy import Policy, Rule, Scope, pattern_of
from libs.rpc.policy_file import PolicyError, PolicyFile, read_policy
from tests.fakes.callers import CALLERS

ROOT = Path(__file__).resolve().parents[4]
GET = "tidewire.auth.v1.TokenService/GetToken"


def policy_of(*rules: Rule) -> Policy:
    return Policy({"spiffe://tidewire/events": "events"}, {"sub": "events"}, rules)


def rule(*methods: str, connections: tuple[str, ...] = (), shops: tuple[str, ...] = ()) -> Rule:
    return Rule(frozenset({"events"}), methods, connections, shops)


def scope_of(*rules: Rule) -> Scope:
    found = policy_of(*rules).scope("events", GET)
    assert found is not None
    return found


def written(directory: Path, text: str) -> Path:
    path = directory / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "methods",
    [
        "tidewire.auth.v1.TokenService/ReportInvalid",
        "tidewire.delivery.v1.*",
        "tidewire.auth.v1.TokenService/GetTok",
        "TokenService/GetToken",
        "tidewireXauth.v1.*",
    ],
)
def test_what_no_rule_names_is_refused(methods: str) -> None:
    assert policy_of(rule(methods)).scope("events", GET) is None
    assert policy_of().scope("events", GET) is None
    assert policy_of(rule("*")).scope("orders", GET) is None


@pytest.mark.parametrize("methods", [GET, "tidewire.auth.v1.*", "tidewire.auth.v1.*/Get*", "*"])
def test_a_method_is_granted_by_its_name_or_a_wildcard(methods: str) -> None:
    assert scope_of(rule(methods)).everything


def test_a_caller_is_known_by_certificate_or_token_and_not_by_the_others() -> None:
    policy = policy_of()

    assert policy.caller(["x", "spiffe://tidewire/events"], by_token=False) == (
        "events",
        "spiffe://tidewire/events",
    )
    assert policy.caller(["sub"], by_token=False) is None
    assert policy.caller(["spiffe://tidewire/events"], by_token=True) is None


@pytest.mark.parametrize(
    ("ids", "shops", "refused"),
    [
        (["acme.events.C1"], [], None),
        (["acme.shopify"], [], "acme.shopify"),
        (["acme.events.C1", "acme.shopify"], [], "acme.shopify"),
        (["acme.events.C1"], ["acme"], None),
        (["acme.events.C1"], ["other"], "other"),
        (["own.shopify"], [], None),
        ([], ["own.myshopify.com"], None),
        ([], ["OWN"], None),
        ([], ["acme"], "acme"),
        (["xown.shopify"], [], "xown.shopify"),
        ([], [], ""),
    ],
)
def test_a_limited_rule_grants_what_fits_and_nothing_that_names_nothing(
    ids: list[str], shops: list[str], refused: str | None
) -> None:
    scope = scope_of(rule("*", connections=("*.events.*",)), rule(GET, shops=("own",)))

    assert scope.refused(ids, shops) == refused


def test_a_rule_without_limits_beats_one_with() -> None:
    scope = scope_of(rule(GET, connections=("a.*",)), rule("*"))

    assert scope.refused(["b.shopify"], []) is None


def test_a_permission_lifts_no_limits_of_other_rules() -> None:
    reveal = Rule(frozenset({"events"}), ("*",), permissions=frozenset({"reveal"}))
    scope = scope_of(rule(GET, shops=("own",)), reveal)

    assert scope.permissions == {"reveal"}
    assert scope.refused([], ["own"]) is None
    assert scope.refused([], ["acme"]) == "acme"
    assert scope.refused([], []) == ""
    assert scope_of(reveal).everything
    assert scope_of(rule(GET, shops=("own",)), rule("*"), reveal).everything


def test_only_the_asterisk_is_special_in_a_pattern() -> None:
    assert pattern_of(["a.b*"]).fullmatch("a.bc\nd")
    assert not pattern_of(["a.b"]).fullmatch("axb")
    assert not pattern_of(["a[bc]?"]).fullmatch("ab")


def test_every_fault_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """\
callers:
  events: {certificates: [spiffe://tidewire/events], tokn: [x]}
  orders: {certificates: [spiffe://tidewire/events]}
  nobody: {}
rules:
  - callers: [event]
    methods: [tidewire.auth.v1.TokenService]
  - callers: [events]
    methods: [/tidewire.auth.v1.TokenService/GetToken]
    connections: []
  - callers: [events]
    methods: ["*"]
    shops: [acme]
    permissions: [reveal, fly]
  - methods: text
roles: []
""",
    )

    with pytest.raises(PolicyError) as caught:
        read_policy(path)

    assert caught.value.code == "rpc_policy_invalid"
    text = "\n".join(caught.value.faults)
    for part in (
        "the file: `roles` is not known",
        "callers.`events`: `tokn` is not known; did you mean `tokens`?",
        "callers.`orders`.certificates: `events` has the same",
        "callers.`nobody`: needs",
        "rules[0].callers: `event` is not known; did you mean `events`?",
        "rules[0].methods:",
        "rules[1].methods:",
        "rules[1].connections: is empty",
        "rules[2].permissions: `fly` is not known",
        "rules[2]: `permissions` cannot be limited",
        "rules[3].callers:",
        "rules[3].methods:",
    ):
        assert part in text, part


@pytest.mark.parametrize("text", ["", "rules: [", "- a", "callers: {}\nrules: []"])
def test_what_is_no_policy_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyError):
        read_policy(written(tmp_path, text))


def test_a_file_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        PolicyFile(tmp_path / "nothing.yaml")

    assert "TIDEWIRE_RPC_POLICY_FILE" in caught.value.message


def test_a_changed_file_comes_into_force_and_a_faulty_one_changes_nothing(tmp_path: Path) -> None:
    rules = f"rules:\n  - callers: [events]\n    methods: [{GET}]\n"
    path = written(tmp_path, CALLERS + rules)
    file = PolicyFile(path)
    first = file.scope("events", GET)

    with capture_logs() as lines:
        path.write_text("rules: nothing", encoding="utf-8")
        kept = [file.refresh(), file.refresh()]
        in_force = file.scope("events", GET)
        path.write_text(CALLERS + rules.replace("events", "orders"), encoding="utf-8")
        taken = [file.refresh(), file.refresh()]

    assert first is not None
    assert (kept, in_force, taken) == ([False, False], first, [True, False])
    assert file.scope("events", GET) is None
    assert file.scope("orders", GET) is not None
    events = [line["event"] for line in lines]
    assert events == ["rpc_policy_not_reloaded", "rpc_policy_reloaded"]


def test_the_shipped_policy_grants_each_service_its_own_tokens_alone() -> None:
    policy = read_policy(ROOT / "deploy" / "policy.yaml")

    def may(caller: str, connection_id: str) -> bool:
        scope = policy.scope(caller, GET)
        return scope is not None and scope.refused([connection_id], []) is None

    granted = {
        (caller, one)
        for caller in ("ingest", "events", "delivery", "catalog", "orders", "auth", "operator")
        for one in ("a.shopify", "a.events.C1", "a.catalog.7", "a.tiktok_shop.0f")
        if may(caller, one)
    }

    assert granted == {
        ("ingest", "a.shopify"),
        ("events", "a.events.C1"),
        ("catalog", "a.catalog.7"),
        ("catalog", "a.shopify"),
        ("orders", "a.tiktok_shop.0f"),
        ("orders", "a.shopify"),
    }
