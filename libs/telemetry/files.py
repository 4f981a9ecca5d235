"""Spans into files, for where no collector is: bounded in size and number, one writer a file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from libs.telemetry.logs import get_logger
from libs.telemetry.records import record_of

FILE_BYTES_MAX: Final = 8 * 1024 * 1024
FILES_MAX: Final = 8

_encoder = msgspec.json.Encoder()
_log = get_logger(__name__)


class FileSpanExporter(SpanExporter):
    """Appends spans to `<directory>/<service>-<pid>.jsonl`.

    A file that has reached `bytes_max` is set aside as `<service>-<pid>-<n>.jsonl`, and of a
    service's files, those of earlier processes included, the newest `files_max` stay.
    The file is opened for each batch: nothing leaks over a fork, and a directory that was emptied
    under a running service fills again.
    """

    def __init__(
        self,
        directory: Path,
        service: str,
        *,
        bytes_max: int = FILE_BYTES_MAX,
        files_max: int = FILES_MAX,
    ) -> None:
        self._directory = directory
        self._service = service
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._failed = False

    @property
    def path(self) -> Path:
        """The file that this process writes now."""
        return self._directory / f"{self._service}-{os.getpid()}.jsonl"

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = _encoder.encode_lines([record_of(span) for span in spans])
        try:
            self._append(lines)
        except OSError as error:
            self._report(error)
            return SpanExportResult.FAILURE
        self._failed = False
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002  (nothing is held)
        return True

    def shutdown(self) -> None:
        """Nothing is held open."""

    def _append(self, lines: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self.path
        created = not path.exists()
        with path.open("ab") as file:
            file.write(lines)
            size = file.tell()
        if size >= self._bytes_max:
            path.rename(self._next_aside())
        if created:
            self._remove_oldest()

    def _next_aside(self) -> Path:
        stem = self.path.stem
        taken = [
            int(path.stem.removeprefix(f"{stem}-"))
            for path in self._files()
            if path.stem.startswith(f"{stem}-")
        ]
        return self._directory / f"{stem}-{max(taken, default=0) + 1}.jsonl"

    def _remove_oldest(self) -> None:
        by_age = sorted(self._files(), key=lambda path: path.stat().st_mtime_ns)
        for path in by_age[: -self._files_max]:
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        ours = re.compile(rf"{re.escape(self._service)}-\d+(-\d+)?\.jsonl")
        return [path for path in self._directory.iterdir() if ours.fullmatch(path.name)]

    def _report(self, error: OSError) -> None:
        # Once for each outage: a full disk would otherwise fill the log five times a second.
        if not self._failed:
            _log.warning("trace_file_unwritable", path=str(self.path), code=error.strerror)
        self._failed = True
