"""Who may call, by signed token: every way in which a token can be wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from structlog.testing import capture_logs

from libs.clock import FakeClock
from libs.errors import ServiceError
from libs.rpc.channel import RenewingChannel
from libs.rpc.guard import TokenProof, guard_of
from libs.rpc.identity import Identity
from libs.rpc.jwt_keys import JwtKeys, file_source, url_source
from libs.rpc.server import REQUEST_BYTES_MAX
from libs.rpc.settings import RpcAuth, RpcSettings
from libs.rpc.tokens import Tokens
from libs.settings import Address
from tests.fakes import callers
from tests.integration.libs.called import Called, called

pytestmark = pytest.mark.asyncio(loop_scope="module")

ISSUER: Final = "https://kubernetes.default.svc"
AUDIENCE: Final = "tidewire"
RSA: Final = rsa.generate_private_key(65537, 2048)
OTHER_RSA: Final = rsa.generate_private_key(65537, 2048)
EC: Final = ec.generate_private_key(ec.SECP256R1())
ED: Final = ed25519.Ed25519PrivateKey.generate()
KEYS: Final[Mapping[str, tuple[Any, str]]] = {
    "rsa": (RSA, "RS256"),
    "ec": (EC, "ES256"),
    "ed": (ED, "EdDSA"),
}

Make = Callable[..., str]


def jwk(kid: str, key: Any, algorithm: str) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key())
    return {**json.loads(made), "kid": kid, "use": "sig"}


def key_set(*names: str) -> bytes:
    keys = [jwk(name, *KEYS[name]) for name in names]
    # As Kubernetes and others have beside them: none of these may ever check a token.
    secret = base64.urlsafe_b64encode(b"0123456789abcdef0123456789abcdef").decode().rstrip("=")
    keys += [{"kty": "oct", "kid": "oct", "k": secret, "alg": "HS256"}, {"kty": "RSA"}]
    return json.dumps({"keys": keys}).encode()


def token(clock: FakeClock, kid: str = "rsa", **changes: Any) -> str:
    key, algorithm = KEYS[kid]
    return jwt.encode(claims(clock, **changes), key, algorithm, headers={"kid": kid})


def claims(clock: FakeClock, **changes: Any) -> dict[str, Any]:
    now = int(clock.now_s)
    made = {"iss": ISSUER, "aud": [AUDIENCE], "sub": "events", "nbf": now, "exp": now + 600}
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def by_hand(header: Mapping[str, Any], body: Mapping[str, Any], secret: bytes | None) -> str:
    """A token as an attacker makes it, whom no library holds back."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in (header, body)
    ]
    signed = ".".join(parts).encode()
    signature = b"" if secret is None else hmac.new(secret, signed, hashlib.sha256).digest()
    return ".".join([*parts, base64.urlsafe_b64encode(signature).decode().rstrip("=")])


def public_pem() -> bytes:
    return RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class House:
    """A server that wants tokens, and a caller with a token file."""

    called: Called
    clock: FakeClock
    keys_file: Path
    token_file: Path
    channel: grpc.aio.Channel

    async def name(self, sent: str) -> str:
        """The name by which the bearer of a token is known."""
        self._hand_over(sent)
        return await self.called.token(self.channel)

    async def refusal(self, sent: str) -> ServiceError:
        """The error with which the bearer of a token is refused as not authenticated."""
        self._hand_over(sent)
        status, error = await self.called.refusal(self.channel)
        assert status is grpc.StatusCode.UNAUTHENTICATED, error
        assert "tidewire.auth.v1.TokenService/GetToken" in error.message
        return error

    def _hand_over(self, sent: str) -> None:
        self.token_file.write_text(f"{sent}\n")
        self.clock.advance(1.5)


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[House]:
    clock = FakeClock()
    keys_file, token_file = directory / "jwks.json", directory / "token"
    keys_file.write_bytes(key_set("rsa", "ec", "ed"))
    token_file.write_text("none yet")
    keys = JwtKeys(file_source(keys_file), clock)
    proof = TokenProof(Tokens(keys, clock, issuer=ISSUER, audience=AUDIENCE))
    identity = Identity(ca_file=callers.certificates().ca_file, token_file=token_file)
    async with called(callers.guard(proof=proof)) as served:
        address = Address("127.0.0.1", served.port)
        async with RenewingChannel(address, identity, (), clock) as channel:
            yield House(served, clock, keys_file, token_file, channel)


@pytest_asyncio.fixture(loop_scope="module")
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as found:
        yield found


@pytest.mark.parametrize("kid", sorted(KEYS))
async def test_a_caller_is_known_by_the_subject_of_its_token(house: House, kid: str) -> None:
    assert await house.name(token(house.clock, kid)) == "events"


async def test_a_renewed_token_file_is_taken_up_by_a_channel_that_is_open(house: House) -> None:
    first = await house.name(token(house.clock))

    assert (first, await house.name(token(house.clock, sub="orders"))) == ("events", "orders")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": None}, "lacks 'exp'"),
        ({"exp": "never"}, "'exp' is no time"),
        ({"nbf": 2_000_000_000}, "not valid yet"),
        ({"aud": ["https://kubernetes.default.svc"]}, "not meant for 'tidewire'"),
        ({"aud": None}, "lacks 'aud'"),
        ({"iss": "https://evil.example"}, f"not from {ISSUER!r}"),
        ({"iss": None}, "lacks 'iss'"),
        ({"sub": None}, "lacks 'sub'"),
        ({"sub": ""}, "names no subject"),
    ],
)
async def test_a_token_with_wrong_claims_is_refused(
    house: House, changes: dict[str, Any], why: str
) -> None:
    error = await house.refusal(token(house.clock, **changes))

    assert error.code == "rpc_unauthenticated"
    assert why in error.message


async def test_a_token_counts_until_it_expires_and_not_a_second_longer(house: House) -> None:
    made = token(house.clock, exp=int(house.clock.now_s) + 10)

    assert await house.name(made) == "events"
    house.clock.advance(10)
    assert "expired" in (await house.refusal(made)).message


async def test_a_token_that_nobody_signed_is_refused(house: House) -> None:
    for algorithm in ("none", "None", "NONE"):
        made = by_hand({"alg": algorithm, "kid": "rsa"}, claims(house.clock), None)
        assert "may sign tokens" in (await house.refusal(made)).message


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
async def test_the_public_key_is_no_secret_to_sign_with(house: House, algorithm: str) -> None:
    header = {"alg": algorithm, "kid": "rsa"}

    error = await house.refusal(by_hand(header, claims(house.clock), public_pem()))

    assert error.code == "rpc_unauthenticated"


async def test_a_shared_secret_in_the_key_set_signs_nothing(house: House) -> None:
    header = {"alg": "HS256", "kid": "oct"}

    error = await house.refusal(
        by_hand(header, claims(house.clock), b"0123456789abcdef0123456789abcdef")
    )

    assert "may sign tokens" in error.message


async def test_a_key_is_used_with_its_own_algorithm_alone(house: House) -> None:
    made = jwt.encode(claims(house.clock), EC, "ES256", headers={"kid": "rsa"})

    assert "not signed by the issuer" in (await house.refusal(made)).message


async def test_a_signature_by_another_key_is_refused(house: House) -> None:
    made = jwt.encode(claims(house.clock), OTHER_RSA, "RS256", headers={"kid": "rsa"})

    assert "not signed by the issuer" in (await house.refusal(made)).message


async def test_a_token_that_was_altered_is_refused(house: House) -> None:
    head, _, signature = token(house.clock).split(".")
    body = token(house.clock, sub="operator").split(".")[1]

    error = await house.refusal(f"{head}.{body}.{signature}")

    assert "not signed by the issuer" in error.message


@pytest.mark.parametrize("sent", ["nonsense", "a.b.c", "e30.e30.e30"])
async def test_what_is_no_token_is_refused(house: House, sent: str) -> None:
    assert (await house.refusal(sent)).code == "rpc_unauthenticated"


async def test_a_call_without_a_token_is_told_what_to_send(house: House) -> None:
    bare = Identity(ca_file=callers.certificates().ca_file)

    async with RenewingChannel(Address("127.0.0.1", house.called.port), bare, ()) as channel:
        status, error = await house.called.refusal(channel)

    assert status is grpc.StatusCode.UNAUTHENTICATED
    assert "authorization: Bearer" in error.message


async def test_who_has_no_token_is_refused_before_anything_of_the_request_is_read(
    house: House,
) -> None:
    # The server says of what it reads that it is too long.
    long = "a" * (REQUEST_BYTES_MAX + 1)

    house._hand_over(token(house.clock))
    read, _ = await house.called.refusal(house.channel, long)
    house._hand_over("nonsense")
    unread, error = await house.called.refusal(house.channel, long)

    assert read is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert unread is grpc.StatusCode.UNAUTHENTICATED
    assert "no token" in error.message


async def test_a_certificate_does_not_stand_in_for_a_token(house: House) -> None:
    async with house.called.as_("events") as channel:
        status, _ = await house.called.refusal(channel)

    assert status is grpc.StatusCode.UNAUTHENTICATED


async def test_an_unknown_key_is_looked_for_at_most_every_ten_seconds(house: House) -> None:
    house.keys_file.write_bytes(key_set("ec"))
    await house.name(token(house.clock, "ec"))
    made = token(house.clock, "rsa")
    unknown = await house.refusal(made)
    house.keys_file.write_bytes(key_set("ec", "rsa"))
    still = await house.refusal(made)
    house.clock.advance(10)

    assert "has no key" in unknown.message
    assert "has no key" in still.message
    assert await house.name(made) == "events"


async def test_a_key_that_is_withdrawn_stops_counting(house: House) -> None:
    made = token(house.clock, exp=int(house.clock.now_s) + 7200)
    before = await house.name(made)
    house.keys_file.write_bytes(key_set("ec"))
    house.clock.advance(700)

    assert before == "events"
    assert "has no key" in (await house.refusal(made)).message


async def test_keys_that_are_known_outlive_an_outage_of_their_issuer(house: House) -> None:
    made = token(house.clock, exp=int(house.clock.now_s) + 7200)
    before = await house.name(made)
    house.keys_file.unlink()
    house.clock.advance(700)

    assert (before, await house.name(made)) == ("events", "events")


async def test_a_key_set_that_cannot_be_read_is_an_outage_and_no_refusal(house: House) -> None:
    house.keys_file.write_text("<html>")
    house._hand_over(token(house.clock))

    status, error = await house.called.refusal(house.channel)

    assert (status, error.code) == (grpc.StatusCode.UNAVAILABLE, "rpc_keys_unavailable")


async def test_no_token_reaches_a_log_or_an_error(house: House) -> None:
    good, bad = token(house.clock), token(house.clock, aud=["nobody"])

    with capture_logs() as lines:
        await house.name(good)
        error = await house.refusal(bad)

    shown = json.dumps([lines, str(error), repr(error)], default=repr)
    for sent in (good, bad):
        for part in sent.split("."):
            assert part not in shown


@asynccontextmanager
async def issuer(keys: bytes, asked: list[str | None]) -> AsyncIterator[str]:
    """`/openid/v1/jwks` as Kubernetes serves it: with a token of one's own."""

    async def serve(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization"))
        if request.path == "/moved":
            raise web.HTTPFound("/openid/v1/jwks")
        return web.Response(body=keys, content_type="application/jwk-set+json")

    app = web.Application()
    app.router.add_get("/openid/v1/jwks", serve)
    app.router.add_get("/moved", serve)
    async with TestServer(app) as server:
        yield str(server.make_url(""))


async def test_keys_are_fetched_from_a_url_with_the_token_in_a_file(tmp_path: Path) -> None:
    own = tmp_path / "own-token"
    own.write_text("obviously-fake\n")
    asked: list[str | None] = []

    async with issuer(key_set("rsa"), asked) as url:
        source = url_source(f"{url}/openid/v1/jwks", ca_file=None, token_file=own)
        found = await JwtKeys(source, FakeClock()).key("rsa")
        elsewhere = url_source(f"{url}/moved", ca_file=None, token_file=own)
        with pytest.raises(ValueError, match="answered 302"):
            await elsewhere()

    assert found is not None
    assert asked == ["Bearer obviously-fake", "Bearer obviously-fake"]


async def test_keys_are_not_fetched_in_clear_from_elsewhere() -> None:
    with pytest.raises(ServiceError) as caught:
        url_source("http://issuer.example/jwks", ca_file=None, token_file=None)

    assert caught.value.code == "rpc_jwks_url_insecure"


async def test_settings_that_lack_the_issuer_are_refused_at_the_start(tmp_path: Path) -> None:
    settings = RpcSettings(
        **{**callers.settings_of("auth"), "rpc_auth": RpcAuth.JWT, "rpc_jwks_file": tmp_path / "x"}
    )

    with pytest.raises(ServiceError) as caught:
        guard_of(settings, FakeClock())

    assert caught.value.code == "rpc_jwt_incomplete"
