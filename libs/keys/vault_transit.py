"""KEKs in the transit engine of HashiCorp Vault or OpenBao: their bytes never leave it.

Each version of a transit key is a KEK of its own, so that what a version wrapped can be counted,
and seen to be gone before the version is closed. (libs/vault.py is something else: our own.)
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
import msgspec

from libs.clock import Clock, SystemClock
from libs.errors import Kind, ServiceError
from libs.http.client import Answer, Request, Upstream
from libs.http.session import http_session, tls_context
from libs.keys.endpoint import check_endpoint, kek_settings
from libs.keys.kek import kek_missing, unreadable
from libs.retry import RetryPolicy
from libs.settings import Secret

T = TypeVar("T")

_ANSWER_S: Final = 3.0
_ANSWER_BYTES_MAX: Final = 256 * 1024
_TOKEN_BYTES_MAX: Final = 8 * 1024
_CIPHER: Final = "aes256-gcm96"
_PATH: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
"""Mounts, namespaces and keys: what needs no escaping in a URL and can be part of a KEK's id."""

_PROOF: Final = b"tidewire: is the binding kept?"
_ELSEWHERE: Final = b"tidewire: then this opens nothing"

_ALTERED: Final = ("message authentication failed", "invalid ciphertext")
_CLOSED: Final = ("version is disallowed by policy", "version is too new")
"""What a 400 of `decrypt` says (sdk/helper/keysutil/policy.go of Vault; OpenBao's are the same).
Any other text is taken for a fault that passes: as PERMANENT it would dead-letter deliveries."""


class _KeyData(msgspec.Struct):
    type: str
    latest_version: int
    keys: dict[int, object]
    derived: bool = False


class _Sealed(msgspec.Struct):
    ciphertext: str


class _Opened(msgspec.Struct):
    plaintext: bytes


class _Refusal(msgspec.Struct):
    errors: list[str] = []


class VaultTransit:
    """One transit engine, reached with the token that a file holds.

    The file is read for each call: an agent beside us renews it. A call is one request over TLS 1.2
    or later, given up after 3 s; callers try again, so it does not, but for a token that was
    replaced in that moment. `ca_file` has the certificates to trust in place of the system's;
    they are read once.

    Raises:
        ServiceError: PERMANENT, `kek_settings`, for a URL off this machine without TLS, for a mount
            or namespace that is none, or where `ca_file` has no certificates.
    """

    def __init__(
        self,
        url: str,
        token_file: Path,
        *,
        mount: str = "transit",
        namespace: str = "",
        ca_file: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_endpoint(url, "TIDEWIRE_KEK_VAULT_URL")
        self.mount = _path(mount, "TIDEWIRE_KEK_VAULT_MOUNT")
        self.namespace = (
            _path(namespace, "TIDEWIRE_KEK_VAULT_NAMESPACE") if namespace.strip("/") else ""
        )
        self._base = f"{url.rstrip('/')}/v1/{self.mount}"
        self._token_file = token_file
        self._session = _SharedSession(_trusted(ca_file))
        self._clock = clock or SystemClock()

    async def key(self, name: str, *, wraps: bool = True) -> TransitKey:
        """The key `name`, all its versions that open; found to keep bindings if it `wraps`.

        Raises:
            ServiceError: PERMANENT, `kek_missing` or `kek_settings`; RETRYABLE, `kek_unavailable`.
        """
        name = _path(name, "TIDEWIRE_KEK_VAULT_KEY")
        absent = kek_missing(
            f"Vault has no key {name} in {self.namespace or 'the root namespace'}, {self.mount}/;"
            " check key, mount and namespace, or create it there"
        )
        found = await self.asked("GET", f"keys/{name}", None, _KeyData, absent=absent)
        if found.type != _CIPHER or found.derived:
            raise kek_settings(f"transit key {name} must be of type {_CIPHER}, and not derived")
        created = {version: at for version, at in found.keys.items() if isinstance(at, int)}
        if found.latest_version not in created:
            raise _unavailable("transit", "an answer that is not of transit")
        key = TransitKey(self, name, created)
        if wraps:
            await _prove(key.latest)
        return key

    async def asked(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        kind: type[T],
        *,
        absent: ServiceError | None = None,
    ) -> T:
        """The `data` of Vault's answer; its refusals become errors of ours here, once.

        `absent` is raised for a 404, where that tells more than that something is wrong for now.
        What denies or fails is RETRYABLE even where only a person can help, as with other KEKs.
        """
        request = Request(
            method=method,
            url=f"{self._base}/{path}",
            body=b"" if body is None else msgspec.json.encode(body),
            timeout_s=_ANSWER_S,
            answer_bytes_max=_ANSWER_BYTES_MAX,
        )
        try:
            async with self._session.open() as session:
                answer = await self._upstream(session).call(request, budget_s=_ANSWER_S)
        except ServiceError as error:
            if error.code.startswith(("kek_", "key_")):
                raise
            if absent is not None and error.code == "upstream_status_404":
                raise absent from None
            raise _unavailable(path, error.message or error.code) from error
        try:
            return _data_of(answer.body, kind)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # Without its cause: that could quote a plaintext.
            raise _unavailable(path, "an answer that is not of transit") from None

    def _upstream(self, session: aiohttp.ClientSession) -> Upstream:
        return Upstream(
            name="vault",
            session=session,
            policy=RetryPolicy(attempts_max=1),
            clock=self._clock,
            authorise=self._authorised,
            check=_verdict,
        )

    async def _authorised(self, request: Request, _: ServiceError | None) -> Request:
        # Read again after a refusal too: it may have been replaced since.
        token = await asyncio.to_thread(_token, self._token_file)
        headers = {"X-Vault-Token": token.reveal(), "X-Vault-Request": "true"}
        if self.namespace:
            headers["X-Vault-Namespace"] = self.namespace
        return replace(request, headers=headers)


class TransitKey:
    """A transit key as it was found: its latest version wraps, those before it only open.

    `created` tells when each version was made, in seconds of Unix time, as Vault keeps it.
    """

    def __init__(self, vault: VaultTransit, name: str, created: Mapping[int, int]) -> None:
        self._vault = vault
        self._name = name
        where = "/".join(part for part in (vault.namespace, vault.mount, name) if part)
        self._family = f"vault-transit:{where}"
        *older, latest = (
            self._version(version, f"{self._family}:v{version}:{created[version]}")
            for version in sorted(created)
        )
        self.latest: Final = latest
        self.older: Final = tuple(older)

    def newer(self, kek_id: str) -> TransitKek | None:
        """The version of that id, if it is one that was made since: Vault opens with it already."""
        found = re.fullmatch(rf"{re.escape(self._family)}:v([1-9][0-9]{{0,8}}):[0-9]+", kek_id)
        if found is None or int(found[1]) <= self.latest.version:
            return None
        return self._version(int(found[1]), kek_id)

    def _version(self, version: int, kek_id: str) -> TransitKek:
        return TransitKek(self._vault, self._name, version, kek_id)


class TransitKek:
    """One version of a transit key; the binding goes into `associated_data`.

    Its id has the moment at which Vault made the version, so that the same name in another Vault,
    or a key that was deleted and made anew, is another KEK.
    """

    answers_within_s = _ANSWER_S
    opens_unnamed = False

    def __init__(self, vault: VaultTransit, name: str, version: int, kek_id: str) -> None:
        self._vault = vault
        self._name = name
        self.version: Final = version
        self.kek_id = kek_id

    async def wrap(self, plain: bytes, binding: bytes) -> bytes:
        """`plain` wrapped by this very version, also where the key was rotated since."""
        sealed = await self._vault.asked(
            "POST",
            f"encrypt/{self._name}",
            {
                "plaintext": _base64(plain),
                "associated_data": _base64(binding),
                "key_version": self.version,
            },
            _Sealed,
        )
        if not sealed.ciphertext.startswith(self._prefix):
            raise _unavailable(f"encrypt/{self._name}", "a ciphertext of another version")
        try:
            return base64.b64decode(sealed.ciphertext.removeprefix(self._prefix), validate=True)
        except ValueError:
            raise _unavailable(f"encrypt/{self._name}", "no ciphertext") from None

    async def unwrap(self, wrapped: bytes, binding: bytes) -> bytes:
        """What was wrapped.

        Raises:
            ServiceError: as the port says; RETRYABLE, `kek_unknown`, where Vault has the version no
                longer, or not yet.
        """
        opened = await self._vault.asked(
            "POST",
            f"decrypt/{self._name}",
            # The version is this one's, whatever the bytes may say: what is counted by it is true.
            {
                "ciphertext": self._prefix + _base64(wrapped),
                "associated_data": _base64(binding),
            },
            _Opened,
        )
        return opened.plaintext

    @property
    def _prefix(self) -> str:
        return f"vault:v{self.version}:"

    def __repr__(self) -> str:
        return f"TransitKek({self.kek_id!r})"


async def _prove(kek: TransitKek) -> None:
    """Refuses an engine that would open a key in any place.

    Vault before 1.13 knows no `associated_data`, and passes over what it does not know.
    """
    wrapped = await kek.wrap(bytes(32), _PROOF)
    await kek.unwrap(wrapped, _PROOF)
    try:
        await kek.unwrap(wrapped, _ELSEWHERE)
    except ServiceError as error:
        if error.code == "key_unreadable":
            return
        raise
    raise kek_settings(
        "this Vault does not bind what it wraps (associated_data): it must be 1.13 or later"
    )


class _SharedSession:
    """One session for calls that overlap, closed with the last: nobody else has to end it."""

    def __init__(self, trusted: ssl.SSLContext) -> None:
        self._trusted = trusted
        self._session: aiohttp.ClientSession | None = None
        self._users = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[aiohttp.ClientSession]:
        session = self._session or http_session(trusted=self._trusted)
        self._session = session
        self._users += 1
        try:
            yield session
        finally:
            self._users -= 1
            if not self._users:
                self._session = None
                await session.close()


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return tls_context(ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise kek_settings(
            f"TIDEWIRE_KEK_VAULT_CA_FILE: {ca_file} has no certificates ({_reason(error)})"
        ) from None


def _reason(error: OSError) -> str:
    return error.strerror or "unreadable"


def _verdict(answer: Answer) -> ServiceError | None:
    """What Vault's answer says beyond its status."""
    if answer.status != 400:
        return None
    try:
        said = " ".join(msgspec.json.decode(answer.body, type=_Refusal).errors)
    except msgspec.MsgspecError:
        return None
    if any(text in said for text in _CLOSED):
        return ServiceError(
            Kind.RETRYABLE,
            "kek_unknown",
            "Vault does not open with this version of the transit key: see its"
            " min_decryption_version, or whether it was restored from an older backup",
        )
    return unreadable() if any(text in said for text in _ALTERED) else None


def _token(path: Path) -> Secret:
    """What the file holds. Its absence passes: an agent may not have written it yet."""
    try:
        with path.open("rb") as file:
            text = file.read(_TOKEN_BYTES_MAX + 1).decode("ascii").strip()
    except OSError as error:
        raise _unavailable(f"token file {path}", _reason(error)) from None
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > _TOKEN_BYTES_MAX or not text.isprintable() or " " in text:
        raise _unavailable(f"token file {path}", "it holds no token")
    return Secret(text)


def _data_of(body: bytes, kind: type[T]) -> T:
    return msgspec.convert(
        msgspec.json.decode(body, type=dict[str, object]).get("data"), kind, str_keys=True
    )


def _path(text: str, variable: str) -> str:
    path = text.strip("/")
    if not _PATH.fullmatch(path):
        raise kek_settings(f"{variable} has letters, digits, '.', '_', '-' and '/' only")
    return path


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _unavailable(what: str, why: str) -> ServiceError:
    return ServiceError(
        Kind.RETRYABLE,
        "kek_unavailable",
        f"Vault, {what}: {why}; check that it is unsealed and reached, and the token and its policy"
        " (a version that may no longer wrap needs a restart of this process)",
    )
