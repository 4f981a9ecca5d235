"""Looks at images that lie on a host that may be anything."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from tempfile import NamedTemporaryFile

import pytest
from aiohttp import ClientSession, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from libs.clock import FakeClock
from libs.http.session import http_session
from services.catalog.adapters.images import ImageLooks, is_public
from tests.unit.catalog.pictures import jpeg, png


@dataclass
class Host:
    """Pictures by path, and how they are handed out."""

    url: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    now: int = 0
    most: int = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        if to := self.redirects.get(request.path):
            return web.Response(status=302, headers={"Location": to})
        content = self.pictures.get(request.path)
        if content is None:
            return web.Response(status=404)
        headers = {}
        if length := self.lengths.get(request.path):
            headers["Content-Range"] = f"bytes 0-{len(content) - 1}/{length}"
        return web.Response(body=content, headers=headers, status=206 if headers else 200)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    served = Host()
    app = web.Application()
    app.router.add_get("/{tail:.*}", served.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with http_session(trusted=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as made:
        yield made


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def looks(session: ClientSession, clock: FakeClock, *, at_once: int = 4) -> ImageLooks:
    return ImageLooks(session, clock, at_once=at_once, timeout_s=2.0, plain_loopback=True)


async def faults(images: ImageLooks, urls: Sequence[str]) -> dict[str, str]:
    """What is wrong with images, by address."""
    found: dict[str, str] = {}
    await images.look(urls, found)
    return found


async def test_each_fault_is_told_and_good_images_are_not(
    host: Host, session: ClientSession, clock: FakeClock
) -> None:
    host.pictures = {
        "/good.jpg": jpeg(500, 500),
        "/late.jpg": jpeg(900, 900, exif=100_000),
        "/good.png": png(2000, 900),
        "/low.png": png(2000, 499),
        "/page.jpg": b"<html>not found</html>",
        "/cut.jpg": jpeg(900, 900)[:25],
        "/vast.jpg": jpeg(900, 900),
    }
    host.lengths = {"/vast.jpg": 50_000_000}
    urls = [f"{host.url}{path}" for path in [*host.pictures, "/none.jpg"]]

    found = await faults(looks(session, clock), urls)

    assert {url.removeprefix(host.url): fault for url, fault in found.items()} == {
        "/low.png": "too_small",
        "/page.jpg": "not_an_image",
        "/cut.jpg": "not_an_image",
        "/vast.jpg": "too_large",
        "/none.jpg": "unreachable",
    }


async def test_an_image_is_looked_at_once_a_day_and_an_outage_sooner_again(
    host: Host, session: ClientSession, clock: FakeClock
) -> None:
    host.pictures = {"/a.jpg": jpeg(100, 100)}
    images, urls = looks(session, clock), [f"{host.url}/a.jpg", f"{host.url}/down.jpg"]
    asked = []
    for later_s in (0, 590, 20, 85_000, 2000):
        clock.advance(later_s)
        await faults(images, [*urls, *urls])
        asked.append((host.asked.count("/a.jpg"), host.asked.count("/down.jpg")))

    assert asked == [(1, 1), (1, 1), (1, 2), (1, 3), (2, 4)]


async def test_so_many_are_fetched_together_and_no_more(
    host: Host, session: ClientSession, clock: FakeClock
) -> None:
    host.pictures = {f"/{number}.png": png(600, 600) for number in range(30)}

    await faults(looks(session, clock, at_once=3), [host.url + path for path in host.pictures])

    assert host.most <= 3
    assert len(host.asked) == 30


async def test_a_redirect_is_followed_three_times_and_not_round_and_round(
    host: Host, session: ClientSession, clock: FakeClock
) -> None:
    host.pictures = {"/a.png": png(600, 600)}
    host.redirects = {"/1": "/2", "/2": "/3", "/3": f"{host.url}/a.png", "/loop": "/loop"}

    found = await faults(looks(session, clock), [f"{host.url}/1", f"{host.url}/loop"])

    assert found == {f"{host.url}/loop": "unreachable"}


@pytest.mark.parametrize(
    "url",
    [
        "http://cdn.example.com/a.jpg",
        "https://127.0.0.1/a.jpg",
        "https://[::1]/a.jpg",
        "https://user@cdn.example.com/a.jpg",
        "https://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "https://inside.example.com/a.jpg",
        "https://mixed.example.com/a.jpg",
        "https://unknown.example.com/a.jpg",
        "https://",
        "//cdn.example.com/a.jpg",
        "https://[half",
        "",
    ],
)
async def test_no_address_but_a_public_https_one_is_connected_to(
    session: ClientSession, clock: FakeClock, url: str
) -> None:
    async def resolve(host: str, _: int) -> Sequence[str]:
        if host == "unknown.example.com":
            raise OSError("no such host")
        known = {
            "cdn.example.com": ["93.184.216.34"],
            "inside.example.com": ["10.0.0.1"],
            "mixed.example.com": ["93.184.216.34", "192.168.1.1"],
        }
        return known.get(host, [host.strip("[]")])

    connected: list[object] = []
    session.get = lambda *args, **_: connected.append(args)  # type: ignore[method-assign,assignment]
    images = ImageLooks(session, clock, resolve=resolve)

    assert await faults(images, [url]) == {url: "unreachable"}
    assert connected == []


async def test_a_redirect_to_the_network_within_is_not_followed(
    host: Host, session: ClientSession, clock: FakeClock
) -> None:
    host.redirects = {"/out": "https://inside.example.com/secret"}
    resolved: list[str] = []

    async def resolve(name: str, _: int) -> Sequence[str]:
        resolved.append(name)
        return ["10.0.0.1"]

    images = ImageLooks(session, clock, plain_loopback=True, resolve=resolve)

    assert await faults(images, [f"{host.url}/out"]) == {f"{host.url}/out": "unreachable"}
    assert resolved == ["inside.example.com"]


async def test_a_host_is_connected_to_by_the_address_that_was_judged_and_known_by_its_name(
    clock: FakeClock,
) -> None:
    server_side, client_side = certified("cdn.example.com")
    hosts: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        hosts.append(request.headers["Host"])
        return web.Response(body=png(600, 600))

    app = web.Application()
    app.router.add_get("/a.png", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_side).start()
    port = runner.addresses[0][1]

    async def resolve(_: str, __: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with http_session(trusted=client_side) as session:
        images = ImageLooks(session, clock, resolve=resolve, admits=lambda _: True)
        named, other = f"https://cdn.example.com:{port}/a.png", f"https://evil.example:{port}/a.png"
        found = await faults(images, [named, other])
    await runner.cleanup()

    assert found == {other: "unreachable"}  # its certificate is another's
    assert hosts == [f"cdn.example.com:{port}"]


def certified(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS with a certificate of its own for a name, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with NamedTemporaryFile() as file:
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write(pem + secret)
        file.flush()
        server_side.load_cert_chain(file.name)
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.load_verify_locations(cadata=pem.decode())
    return server_side, client_side


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.1", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("cdn.example.com", False),
    ],
)
def test_an_address_of_the_open_internet_is_told_from_others(address: str, public: bool) -> None:  # noqa: FBT001
    assert is_public(address) is public
