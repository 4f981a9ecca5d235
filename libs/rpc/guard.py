"""The door of every gRPC server: who calls, and whether the policy lets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeAlias

import grpc

from libs.clock import Clock
from libs.errors import permanent
from libs.rpc.callers import Caller
from libs.rpc.errors import RefusedError
from libs.rpc.jwt_keys import JwtKeys, file_source, url_source
from libs.rpc.policy import Scope
from libs.rpc.policy_file import PolicyFile
from libs.rpc.requests import named_in
from libs.rpc.settings import RpcAuth, RpcSettings
from libs.rpc.tls import ServerTls, TlsFiles
from libs.rpc.tokens import TokenRefusedError, Tokens

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]] | None
"""What came with an rpc ahead of its request."""

Refused = Callable[[str, str], None]
"""Told of each refusal: method, reason."""

_POLL_S: Final = 2.0
_BEARER: Final = "bearer "
_MAP_MAX: Final = 10_000


class Proof(Protocol):
    """How callers prove who they are."""

    by_token: bool

    async def knock(self, metadata: Metadata) -> None:
        """Judges what came ahead of the request, while nothing of that has been read.

        Raises:
            RefusedError: UNAUTHENTICATED, with what to do about it.
        """

    async def identities(self, context: Context) -> Sequence[str]:
        """What the caller has proved to be, the best first.

        Raises:
            RefusedError: UNAUTHENTICATED, with what to do about it.
        """


class CertificateProof:
    """By the names in the certificate with which the caller came through TLS.

    A name that is a URI (`spiffe://…`) beats all DNS names; the common name counts for nothing.
    """

    by_token = False

    async def knock(self, metadata: Metadata) -> None:
        """Lets everybody on: whoever has no certificate did not get through TLS."""

    async def identities(self, context: Context) -> Sequence[str]:
        proved = context.auth_context()
        names = proved.get("peer_uri") or proved.get("peer_dns") or ()
        if not names:
            raise RefusedError.unauthenticated(
                "the certificate has no URI or DNS name to be known by; give it one"
            )
        return [bytes(name).decode("utf-8", "replace") for name in names]


class TokenProof:
    """By a signed token in the metadata `authorization: Bearer …`."""

    by_token = True

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def knock(self, metadata: Metadata) -> None:
        """Holds back whoever has no token that counts."""
        await self._subject(metadata)

    async def identities(self, context: Context) -> Sequence[str]:
        return (await self._subject(context.invocation_metadata()),)

    async def _subject(self, metadata: Metadata) -> str:
        sent = [value for key, value in metadata or () if key == _KEY]
        if len(sent) != 1 or not isinstance(sent[0], str) or sent[0][:7].lower() != _BEARER:
            raise RefusedError.unauthenticated(
                "no token came with the call; send one as `authorization: Bearer …`"
            )
        try:
            return await self._tokens.subject(sent[0][7:].strip())
        except TokenRefusedError as error:
            raise RefusedError.unauthenticated(str(error)) from None


_KEY: Final = "authorization"


class Admission:
    """A caller that may call a method, and how far it may go with it."""

    __slots__ = ("_filters", "_method", "_scope", "caller")

    def __init__(self, caller: Caller, scope: Scope, *, filters: bool) -> None:
        self.caller = caller
        self._method = caller.method
        self._scope = scope
        self._filters = filters

    def hold(self, request: object) -> None:
        """Holds a request against the limits of the rules.

        Raises:
            RefusedError: PERMISSION_DENIED, for a connection or shop beyond them, or for a request
                that names none, unless the servicer itself keeps to the limits in its answer.
        """
        if self._scope.everything:
            return
        refused = self._scope.refused(*named_in(request))
        if refused is None or (not refused and self._filters):
            return
        raise RefusedError.denied(
            "connection_denied",
            f"{self.caller.name} may not call {self._method} "
            + ("for this connection or shop" if refused else "without naming a connection")
            + ": its rules in the policy file are limited",
        )


class Guard:
    """Lets rpcs in by `proof` and policy. One serves a whole process.

    `refused` hears of each refusal.
    """

    def __init__(
        self, proof: Proof, policy: PolicyFile, tls: ServerTls, refused: Refused | None = None
    ) -> None:
        self._proof = proof
        self._policy = policy
        self._tls = tls
        self._refused = refused
        self._admitted: dict[tuple[Any, ...], Admission] = {}
        self._version = policy.version

    def credentials(self) -> grpc.ServerCredentials:
        """What a port is opened with."""
        return self._tls.credentials()

    async def knock(self, method: str, metadata: Metadata) -> None:
        """Refuses, while nothing of the request has been read, whoever `admit` would not know.

        Raises:
            RefusedError: UNAUTHENTICATED, with what to do about it.
            ServiceError: RETRYABLE, `rpc_keys_unavailable`.
        """
        with _naming(method):
            await self._proof.knock(metadata)

    async def admit(self, method: str, context: Context, *, filters: bool = False) -> Admission:
        """The caller of an rpc of `method` (`package.Service/Method`), if it may make it.

        `filters` says that its servicer keeps to the limits of the caller in what it answers.

        Raises:
            RefusedError: UNAUTHENTICATED or PERMISSION_DENIED, with what to do about it.
            ServiceError: RETRYABLE, `rpc_keys_unavailable`.
        """
        with _naming(method):
            identities = await self._proof.identities(context)
        if self._version != self._policy.version:
            self._version, self._admitted = self._policy.version, {}
        key = (method, *identities)
        admitted = self._admitted.get(key)
        if admitted is None:
            admitted = self._judged(method, identities, filters=filters)
            if len(self._admitted) >= _MAP_MAX:
                self._admitted.clear()
            self._admitted[key] = admitted
        return admitted

    def note(self, method: str, error: RefusedError) -> None:
        """Counts a refusal."""
        if self._refused is not None:
            self._refused(method, error.reason)

    async def follow(self) -> None:
        """Takes up changes of the policy, until cancelled."""
        while True:
            await asyncio.sleep(_POLL_S)
            self.refresh()

    def refresh(self) -> bool:
        """Looks whether the policy has changed; true where another one is in force now."""
        return self._policy.refresh()

    def _judged(self, method: str, identities: Sequence[str], *, filters: bool) -> Admission:
        known = self._policy.policy.caller(identities, by_token=self._proof.by_token)
        if known is None:
            field = "tokens" if self._proof.by_token else "certificates"
            raise RefusedError.denied(
                "caller_unknown",
                f"{identities[0]} is no caller of {method}: name it under `callers` in the policy"
                f" file, as one of `{field}`",
            )
        scope = self._policy.scope(known.name, method)
        if scope is None:
            raise RefusedError.denied(
                "method_denied",
                f"{known.name} may not call {method}: no rule of the policy file lets it",
            )
        caller = Caller(known.name, known.identity, method, self._policy)
        return Admission(caller, scope, filters=filters)


@contextmanager
def _naming(method: str) -> Iterator[None]:
    try:
        yield
    except RefusedError as error:
        message = f"{method} must know who calls: {error.message}"
        raise RefusedError.unauthenticated(message) from None


def guard_of(settings: RpcSettings, clock: Clock, refused: Refused | None = None) -> Guard:
    """The guard that settings describe.

    Raises:
        ServiceError: PERMANENT, with what is wrong: the policy, a certificate, or `jwt` that lacks
            its issuer or keys.
    """
    by_token = settings.rpc_auth is RpcAuth.JWT
    files = TlsFiles(
        settings.rpc_cert_file, settings.rpc_key_file, None if by_token else settings.rpc_ca_file
    )
    proof: Proof = TokenProof(_tokens(settings, clock)) if by_token else CertificateProof()
    return Guard(proof, PolicyFile(settings.rpc_policy_file), ServerTls(files), refused)


def _tokens(settings: RpcSettings, clock: Clock) -> Tokens:
    issuer, audience = settings.rpc_jwt_issuer, settings.rpc_jwt_audience
    if settings.rpc_jwks_file is not None:
        source = file_source(settings.rpc_jwks_file)
    elif settings.rpc_jwks_url:
        source = url_source(
            settings.rpc_jwks_url,
            ca_file=settings.rpc_jwks_ca_file,
            token_file=settings.rpc_jwks_token_file,
        )
    else:
        source = None
    if source is None or not issuer or not audience:
        raise permanent(
            "rpc_jwt_incomplete",
            "`jwt` needs TIDEWIRE_RPC_JWT_ISSUER, TIDEWIRE_RPC_JWT_AUDIENCE and one of"
            " TIDEWIRE_RPC_JWKS_URL and TIDEWIRE_RPC_JWKS_FILE",
        )
    return Tokens(JwtKeys(source, clock), clock, issuer=issuer, audience=audience)
