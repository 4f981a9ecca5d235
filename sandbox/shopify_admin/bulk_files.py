"""The outputs of bulk operations: files behind addresses that are signed and expire."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlencode

from aiohttp import web

from libs.clock import Clock
from sandbox.shopify_admin.bulk_script import BulkFaults, DownloadStatus, Truncate

PATH: Final = "/shopify/{shop}/bulk-operation-outputs/{name}"
_BUFFER_BYTES: Final = 2**18
_KEPT: Final = 20
"""Outputs that stay on disk; of older ones the file goes."""

_XML: Final = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{}</Code></Error>"


@dataclass(slots=True, eq=False)
class Output:
    """One file."""

    name: str
    number: int
    domain: str
    path: Path
    valid_s: float
    size_bytes: int = 0
    sealed_at_s: float = 0.0

    def open(self) -> BinaryIO:
        return self.path.open("wb", buffering=_BUFFER_BYTES)

    def seal(self, now_s: float) -> None:
        """Nothing more is written; from now on it may be fetched."""
        self.size_bytes = self.path.stat().st_size
        self.sealed_at_s = now_s

    @property
    def expires_at_s(self) -> int:
        return int(self.sealed_at_s + self.valid_s)


class BulkFiles:
    """Every output, in a folder that lives as long as the simulator."""

    def __init__(self, clock: Clock, faults: BulkFaults) -> None:
        self._clock = clock
        self._faults = faults
        self._key = secrets.token_bytes(16)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._outputs: dict[str, Output] = {}

    def add_routes(self, app: web.Application) -> None:
        """Serves what was written."""
        app.router.add_get(PATH, self._serve)

    def create(self, domain: str, number: int, valid_s: float) -> Output:
        """A file to write to."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="shopify-bulk-")
        name = f"{self._sign(f'{domain}/{number}').hex()[:28]}-final"
        output = Output(name, number, domain, Path(self._folder.name, name), valid_s)
        self._outputs[name] = output
        for old in list(self._outputs)[:-_KEPT]:
            self._outputs.pop(old).path.unlink(missing_ok=True)
        return output

    def remove(self) -> None:
        """Removes all files."""
        self._outputs.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def is_expired(self, output: Output) -> bool:
        """Whether its address has ended."""
        return output.sealed_at_s > 0 and self._now_s() > output.expires_at_s

    def url_of(self, origin: str, output: Output) -> str | None:
        """Its address; None while it is written to."""
        if not output.sealed_at_s:
            return None
        file = f"bulk-{output.number}.jsonl"
        query = {
            "GoogleAccessId": "sandbox-exports@example.com",
            "Expires": str(output.expires_at_s),
            "Signature": self._signature(output),
            "response-content-disposition": f'attachment; filename="{file}"',
            "response-content-type": "application/jsonl",
        }
        path = PATH.format(shop=output.domain, name=output.name)
        return f"{origin}{path}?{urlencode(query)}"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        output = self._outputs.get(request.match_info["name"])
        if output is None or not output.sealed_at_s:
            return _refused(404, "NoSuchKey")
        signature = request.query.get("Signature", "")
        expires = request.query.get("Expires", "")
        if expires != str(output.expires_at_s) or not hmac.compare_digest(
            signature, self._signature(output)
        ):
            return _refused(403, "SignatureDoesNotMatch")
        if self.is_expired(output):
            return _refused(400, "ExpiredToken")
        answered = self._faults.strike(output.domain, DownloadStatus)
        if answered is not None:
            return web.Response(status=answered.status)
        cut = self._faults.strike(output.domain, Truncate)
        if cut is not None:
            return await _broken(request, output, cut.after_bytes)
        headers = {
            "Content-Type": "application/jsonl",
            "Content-Disposition": request.query.get("response-content-disposition", ""),
        }
        return web.FileResponse(output.path, headers=headers)

    def _signature(self, output: Output) -> str:
        return base64.b64encode(self._sign(f"{output.name}:{output.expires_at_s}")).decode()

    def _sign(self, text: str) -> bytes:
        return hmac.new(self._key, text.encode(), hashlib.sha256).digest()

    def _now_s(self) -> float:
        return self._clock.now_ns() / 1e9


async def _broken(request: web.Request, output: Output, after_bytes: int) -> web.StreamResponse:
    """Promises all that was asked for, sends the beginning, and breaks the connection."""
    begin = request.http_range.start or 0
    answer = web.StreamResponse(status=206 if begin else 200)
    answer.content_type = "application/jsonl"
    answer.content_length = output.size_bytes - begin
    if begin:
        last = output.size_bytes - 1
        answer.headers["Content-Range"] = f"bytes {begin}-{last}/{output.size_bytes}"
    await answer.prepare(request)
    await answer.write(_part(output.path, begin, after_bytes))
    if request.transport is not None:
        request.transport.close()
    return answer


def _part(path: Path, begin: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(size)


def _refused(status: int, code: str) -> web.Response:
    return web.Response(status=status, text=_XML.format(code), content_type="application/xml")
