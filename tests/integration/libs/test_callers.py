"""Who may call, by certificate: a real server, and callers of every kind."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from libs.clock import FakeClock, SystemClock
from libs.errors import Kind, ServiceError
from libs.rpc.certificates import NAMES, make_certificates
from libs.rpc.channel import RenewingChannel
from libs.rpc.client import call, stream
from libs.rpc.guard import CertificateProof, Guard
from libs.rpc.identity import Identity
from libs.rpc.policy_file import PolicyFile
from libs.rpc.tls import ServerTls, TlsFiles
from libs.settings import Address
from tests.fakes import callers
from tests.integration.libs.called import KNOWN, TOKENS, Called, called, policy_at
from tidewire.auth.v1 import token_service_pb2 as pb
from tidewire.auth.v1 import token_service_pb2_grpc

# One loop for all: grpc.aio has one queue of events for the process.
pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS_ALONE = f"  - callers: [events]\n    methods: [{TOKENS}/GetToken]\n"
LIMITED = f"  - callers: [events]\n    methods: [{TOKENS}/*]\n    connections: [acme.events.*]\n"


@pytest_asyncio.fixture(loop_scope="module")
async def house(tmp_path: Path) -> AsyncIterator[Called]:
    """Lets `events` have tokens, and nobody anything else."""
    async with called(callers.guard(policy_at(tmp_path, EVENTS_ALONE))) as found:
        yield found


async def is_shut_out(house: Called, channel: grpc.aio.Channel) -> bool:
    """Whether the connection does not even come about: TLS lets nobody through."""
    status, _ = await house.refusal(channel)
    return status is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_is_known_by_its_certificate(house: Called) -> None:
    async with house.as_("events") as channel:
        assert await house.token(channel) == "events"


async def test_a_certificate_of_another_service_is_denied_by_name(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    policy = policy_at(tmp_path, EVENTS_ALONE)
    guard = callers.guard(policy, refused=lambda method, reason: heard.append((method, reason)))

    async with called(guard) as house, house.as_("orders") as channel:
        with capture_logs() as lines:
            status, error = await house.refusal(channel)

    assert status is grpc.StatusCode.PERMISSION_DENIED
    assert (error.kind, error.code) == (Kind.RETRYABLE, "rpc_method_denied")
    assert "orders" in error.message
    assert f"{TOKENS}/GetToken" in error.message
    assert heard == [(f"{TOKENS}/GetToken", "method_denied")]
    (line,) = [one for one in lines if one["event"] == "rpc_served"]
    assert (line["log_level"], line["reason"]) == ("warning", error.message)


async def test_a_method_that_no_rule_names_is_denied(house: Called) -> None:
    async with house.as_("events") as channel:
        stub: Any = token_service_pb2_grpc.TokenServiceStub(channel)
        with pytest.raises(ServiceError) as caught:
            await call(
                stub.ReportInvalid,
                pb.ReportInvalidRequest(connection_id="a.shopify", revision=1),
                timeout_s=10,
            )

    assert caught.value.code == "rpc_method_denied"


async def test_a_caller_that_the_policy_does_not_name_is_told_so(
    house: Called, tmp_path: Path
) -> None:
    path = tmp_path / "other.yaml"
    only = "callers: {orders: {certificates: [x]}}\nrules: [{callers: [orders], methods: ['*']}]"
    path.write_text(only, encoding="utf-8")

    async with called(callers.guard(path)) as other, other.as_("events") as channel:
        status, error = await other.refusal(channel)

    assert status is grpc.StatusCode.PERMISSION_DENIED
    assert error.code == "rpc_caller_unknown"
    assert "spiffe://tidewire/events" in error.message


async def test_a_certificate_of_another_authority_does_not_get_through(house: Called) -> None:
    strange = callers.strangers().identity("events")
    mixed = Identity(
        ca_file=callers.certificates().ca_file,
        cert_file=strange.cert_file,
        key_file=strange.key_file,
    )

    async with RenewingChannel(Address("127.0.0.1", house.port), mixed, ()) as channel:
        assert await is_shut_out(house, channel)


async def test_a_server_of_another_authority_is_not_called(house: Called) -> None:
    strange = callers.strangers().identity("events")

    async with RenewingChannel(Address("127.0.0.1", house.port), strange, ()) as channel:
        assert await is_shut_out(house, channel)


async def test_nobody_gets_through_without_a_certificate(house: Called) -> None:
    bare = Identity(ca_file=callers.certificates().ca_file)

    async with RenewingChannel(Address("127.0.0.1", house.port), bare, ()) as channel:
        assert await is_shut_out(house, channel)


async def test_nobody_gets_through_without_tls(house: Called) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.port}") as channel:
        assert await is_shut_out(house, channel)


async def test_an_expired_certificate_does_not_get_through(tmp_path: Path) -> None:
    files, made = TlsFiles(*_of(callers.certificates(), "delivery")), tmp_path / "old"
    old = make_certificates(
        made, FakeClock(SystemClock().now_ns() / 1e9 - 86_400), life=timedelta(hours=1)
    )
    both = tmp_path / "both.crt"
    both.write_bytes(old.ca_file.read_bytes() + callers.certificates().ca_file.read_bytes())
    tls = ServerTls(TlsFiles(files.cert_file, files.key_file, both))
    expired = Identity(
        ca_file=callers.certificates().ca_file,
        cert_file=old.cert_file("events"),
        key_file=old.key_file("events"),
    )

    guard = Guard(CertificateProof(), PolicyFile(callers.open_policy()), tls)
    async with (
        called(guard) as house,
        RenewingChannel(Address("127.0.0.1", house.port), expired, ()) as channel,
    ):
        assert await is_shut_out(house, channel)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_tls_older_than_1_2_is_refused(house: Called) -> None:
    made = callers.certificates()

    def shake(version: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=str(made.ca_file))
        context.load_cert_chain(made.cert_file("events"), made.key_file("events"))
        context.set_alpn_protocols(["h2"])
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection(("127.0.0.1", house.port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as wrapped,
        ):
            return wrapped.version()

    assert await asyncio.to_thread(shake, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.to_thread(shake, ssl.TLSVersion.TLSv1_1)


async def test_health_and_reflection_are_open_to_whoever_gets_through_tls(house: Called) -> None:
    async with house.as_("orders") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        shown = await call(health.Check, health_pb2.HealthCheckRequest(), timeout_s=10)
        mirror: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # takes both
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [one async for one in mirror.ServerReflectionInfo(iter([asked]))]

    assert shown.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert TOKENS in {one.name for one in answers[0].list_services_response.service}


async def test_a_limited_rule_grants_its_connections_alone(tmp_path: Path) -> None:
    async with (
        called(callers.guard(policy_at(tmp_path, LIMITED))) as house,
        house.as_("events") as channel,
    ):
        own = await house.token(channel, "acme.events.C1")
        status, error = await house.refusal(channel, "acme.shopify")
        stub: Any = token_service_pb2_grpc.TokenServiceStub(channel)
        batch = pb.BatchGetTokensRequest(connection_ids=["acme.events.C1", "acme.shopify"])
        with pytest.raises(ServiceError) as mixed:
            await call(stub.BatchGetTokens, batch, timeout_s=10)
        with pytest.raises(ServiceError) as unnamed:
            await call(stub.GetToken, pb.GetTokenRequest(), timeout_s=10)

    assert own == "events"
    assert status is grpc.StatusCode.PERMISSION_DENIED
    assert error.code == mixed.value.code == unnamed.value.code == "rpc_connection_denied"


@pytest.mark.parametrize(
    ("rules", "told"),
    [(LIMITED, ["acme.events.C1"]), (EVENTS_ALONE.replace("GetToken", "*"), KNOWN)],
)
async def test_a_watch_tells_a_caller_of_what_it_may_have(
    tmp_path: Path, rules: str, told: list[str]
) -> None:
    async with (
        called(callers.guard(policy_at(tmp_path, rules))) as house,
        house.as_("events") as channel,
    ):
        stub: Any = token_service_pb2_grpc.TokenServiceStub(channel)
        watching = stream(stub.WatchTokens, pb.WatchTokensRequest(), timeout_s=10)
        heard = [one.connection_id async for one in watching]

    assert heard == list(told)


async def test_a_changed_policy_is_taken_up_by_connections_that_are_open(tmp_path: Path) -> None:
    guard = callers.guard(policy_at(tmp_path, EVENTS_ALONE))

    async with (
        called(guard) as house,
        house.as_("orders") as channel,
        house.as_("events") as other,
    ):
        before, _ = await house.refusal(channel)
        admitted = await house.token(other)
        policy_at(tmp_path, EVENTS_ALONE.replace("events", "orders"))
        taken = guard.refresh()
        after = await house.token(channel)
        withdrawn, _ = await house.refusal(other)

    assert (admitted, taken) == ("events", True)
    assert before is withdrawn is grpc.StatusCode.PERMISSION_DENIED
    assert after == "orders"


async def test_renewed_certificates_are_taken_up_on_both_sides(tmp_path: Path) -> None:
    """A new authority, new certificates: neither the server nor a long-lived channel restarts."""
    made = make_certificates(tmp_path / "mine", SystemClock())
    tls = ServerTls(TlsFiles(*_of(made, "auth")))
    guard = Guard(CertificateProof(), PolicyFile(callers.open_policy()), tls)
    clock = FakeClock()
    old = tmp_path / "old"

    async with called(guard) as house:
        address = Address("127.0.0.1", house.port)
        async with RenewingChannel(address, made.identity("events"), (), clock) as channel:
            before = await house.token(channel)
            shutil.copytree(made.directory, old)
            make_certificates(made.directory, SystemClock())
            clock.advance(2)
            after = await house.token(channel)
            versions = channel.version
        stale = type(made)(old).identity("events")
        async with RenewingChannel(address, stale, ()) as channel:
            assert await is_shut_out(house, channel)

    assert (before, after, versions) == ("events", "events", 2)


async def test_a_half_written_certificate_changes_nothing(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "mine", SystemClock())
    guard = Guard(
        CertificateProof(),
        PolicyFile(callers.open_policy()),
        ServerTls(TlsFiles(*_of(made, "auth"))),
    )

    async with called(guard) as house:
        made.key_file("auth").write_bytes(made.key_file("events").read_bytes())
        with capture_logs() as lines:
            for _ in range(2):
                async with RenewingChannel(
                    Address("127.0.0.1", house.port), made.identity("events"), ()
                ) as channel:
                    assert await house.token(channel) == "events"

    events = [line["event"] for line in lines]
    assert events.count("rpc_certificate_not_reloaded") == 1


async def test_calls_under_way_outlive_a_renewal(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "mine", SystemClock())
    guard = Guard(
        CertificateProof(),
        PolicyFile(callers.open_policy()),
        ServerTls(TlsFiles(*_of(made, "auth"))),
    )
    clock = FakeClock()

    async with called(guard) as house:
        address = Address("127.0.0.1", house.port)
        async with RenewingChannel(address, made.identity("events"), (), clock) as channel:
            stub: Any = token_service_pb2_grpc.TokenServiceStub(channel)
            house.vault.more.clear()
            watching = stream(stub.WatchTokens, pb.WatchTokensRequest(), timeout_s=10)
            first = await anext(watching)
            make_certificates(made.directory, SystemClock())
            clock.advance(2)
            again = await house.token(channel)
            house.vault.more.set()
            rest = [one.connection_id async for one in watching]

    assert (again, first.connection_id, rest) == ("events", KNOWN[0], list(KNOWN[1:]))


async def test_a_success_of_a_quiet_method_is_not_logged_and_a_refusal_is(tmp_path: Path) -> None:
    guard = callers.guard(policy_at(tmp_path, LIMITED))

    async with called(guard, quiet=True) as house, house.as_("events") as channel:
        with capture_logs() as lines:
            await house.token(channel)
            await house.refusal(channel, "acme.shopify")

    codes = [line["code"] for line in lines if line["event"] == "rpc_served"]
    assert codes == ["rpc_connection_denied"]


async def test_keys_are_for_their_owner_alone_and_the_authoritys_is_nowhere(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "mine", SystemClock())

    keys = sorted(made.directory.glob("*.key"))

    assert {one.stem for one in keys} == set(NAMES)
    assert {one.stat().st_mode & 0o777 for one in keys} == {0o600}
    authority = made.ca_file.read_bytes()
    assert b"PRIVATE" not in authority
    assert not list(made.directory.glob("ca.key*"))


async def test_no_key_reaches_a_log_or_an_error(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "mine", SystemClock())
    serving = ServerTls(TlsFiles(*_of(made, "auth")))
    broken = made.key_file("auth").read_text().replace("PRIVATE KEY", "PRIVATE KIY")
    made.key_file("auth").write_text(broken)

    with pytest.raises(ServiceError) as caught:
        ServerTls(TlsFiles(*_of(made, "auth")))
    with capture_logs() as lines:
        renewed = serving._renewed()

    assert renewed is None
    assert [line["event"] for line in lines] == ["rpc_certificate_not_reloaded"]
    assert caught.value.code == "rpc_certificate_unusable"
    assert str(made.key_file("auth")) in caught.value.message
    told = [lines, str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    shown = json.dumps(told, default=repr)
    for secret in broken.splitlines()[1:-1]:
        assert secret not in shown


def _of(made: Any, name: str) -> tuple[Path, Path, Path]:
    return made.cert_file(name), made.key_file(name), made.ca_file
