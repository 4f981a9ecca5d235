"""Generates `gen/` from `protos/`: messages, gRPC stubs and their types.

`buf/validate/validate.proto` comes from the validation library that is installed, so the rules that
are compiled in and the rules that are enforced cannot drift apart.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"
VALIDATE = "buf/validate/validate.proto"


def validate_descriptor(target: Path) -> None:
    """Writes the descriptor set of `buf/validate/validate.proto` to `target`."""
    from google.protobuf import (  # noqa: PLC0415
        descriptor_pb2,
        duration_pb2,
        field_mask_pb2,
        timestamp_pb2,
    )
    from protovalidate._gen.buf.validate import validate_pb  # noqa: PLC0415

    files = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.add().ParseFromString(bytes(validate_pb.desc().proto.to_binary()))
    target.write_bytes(files.SerializeToString())


def protoc(*arguments: str) -> None:
    """Runs the protobuf compiler; its own words are the error message."""
    scripts = Path(sys.executable).parent
    environment = dict(os.environ, PATH=f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}")
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True, env=environment
    )


def sources() -> list[str]:
    """Every schema of the suite, relative to `protos/`."""
    return sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))


def image(target: Path) -> None:
    """Writes all schemas, comments included, as one descriptor set: what `buf` reads."""
    target.parent.mkdir(parents=True, exist_ok=True)
    imports = target.with_suffix(".validate.binpb")
    validate_descriptor(imports)
    protoc(
        f"--proto_path={PROTOS}",
        f"--descriptor_set_in={imports}",
        "--include_source_info",
        "--include_imports",
        f"--descriptor_set_out={target}",
        *sources(),
    )
    target.write_bytes(_mark_imports(target.read_bytes()))


def _mark_imports(image_bytes: bytes) -> bytes:
    """The same image with every schema that is not ours marked as an import.

    Field 8042 of a file, a message whose field 1 is true, is how buf's image format says so.
    """
    from google.protobuf import descriptor_pb2  # noqa: PLC0415

    is_import = b"\xd2\xf6\x03\x02\x08\x01"
    marked = descriptor_pb2.FileDescriptorSet()
    for file in descriptor_pb2.FileDescriptorSet.FromString(image_bytes).file:
        ours = file.name.startswith("tidewire/")
        marked.file.add().MergeFromString(file.SerializeToString() + (b"" if ours else is_import))
    return marked.SerializeToString()


def packages(root: Path) -> None:
    """Makes every folder below `root` a package."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").touch()


def generate(target: Path) -> None:
    """Writes Python code for all schemas below `target`."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    build = ROOT / ".build"
    build.mkdir(exist_ok=True)
    imports = build / "validate.binpb"
    validate_descriptor(imports)
    everything = sources()
    services = [name for name in everything if name.endswith("_service.proto")]
    common = [f"--proto_path={PROTOS}", f"--descriptor_set_in={imports}"]
    protoc(*common, f"--python_out={target}", f"--mypy_out=quiet:{target}", *everything, VALIDATE)
    protoc(*common, f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}", *services)
    for name in ("tidewire", "buf"):
        packages(target / name)


def main() -> None:
    """`python tools/gen.py [--out DIR] [--image FILE]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=GEN)
    parser.add_argument("--image", type=Path, help="write a descriptor set here instead of code")
    chosen = parser.parse_args()
    if chosen.image:
        image(chosen.image)
    else:
        generate(chosen.out)


if __name__ == "__main__":
    main()
