"""A publisher on one side, a VO box's repositories behind real TLS on the other; and the port's contract."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.requests import Request
from starlette.staticfiles import StaticFiles

from orchestrator.errors import NotAllowed, PermanentError, UserError
from orchestrator.runtime import web
from orchestrator.runtime.http import Api, tls_context
from orchestrator.software.cvmfs import keys as key_files
from orchestrator.software.cvmfs.keys import RepositoryKeys
from orchestrator.software.cvmfs.model import Change, object_path
from orchestrator.software.cvmfs.objects import pack
from orchestrator.software.cvmfs.publish import publish
from orchestrator.software.cvmfs.read import materialise
from orchestrator.software.cvmfs.store import Commit, HttpsStore, LocalStore, ObjectStore, http_fetch
from orchestrator.software.cvmfs.upload import Repositories, routes
from orchestrator.software.cvmfs.wire import frame

FQRN = "alice.example.org"
NOW = 1_750_000_000.0
TOKEN = "the release manager's token"


@dataclass
class Served:
    """A running server."""

    url: str
    tls: ssl.SSLContext
    repositories: Repositories

    def api(self, token: str = TOKEN) -> Api:
        async def source() -> str:
            return token

        return Api(self.url, self.tls, source, patience=1.0)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> RepositoryKeys:
    return key_files.create(tmp_path_factory.mktemp("keys"), FQRN, NOW)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    certificate(tmp_path)
    repositories = Repositories(tmp_path / "cvmfs", tmp_path / "pinned")
    repositories.root.mkdir()

    async def authorize(request: Request, role: str) -> None:
        assert role == "release"
        if web.bearer(request) != TOKEN:
            raise NotAllowed("this token may not publish")

    public = web.mount("/cvmfs", StaticFiles(directory=repositories.root))
    app = web.application([*routes(repositories, authorize, lambda: NOW), public], None)
    server = web.server(app, web.TlsFiles(tmp_path / "host.pem", tmp_path / "host.key"))
    sock = web.listen("127.0.0.1", 0)
    running = asyncio.create_task(server.serve([sock]))
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"https://127.0.0.1:{sock.getsockname()[1]}"
    try:
        yield Served(url, tls_context(tmp_path / "host.pem"), repositories)
    finally:
        server.should_exit = True
        await running
        sock.close()


def certificate(place: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vobox")])
    start = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(hours=1))
        .not_valid_after(start + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (place / "host.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (place / "host.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def build(top: Path, text: str = "one") -> Path:
    (top / "bin").mkdir(parents=True)
    (top / "bin/tool").write_text(text)
    (top / "bin/link").symlink_to("tool")
    (top / "big").write_bytes(bytes(range(256)) * 40_000)
    for number in range(200):
        (top / f"f{number}").write_text(f"{text} {number}")
    return top


async def test_published_from_afar_and_read_by_http(
    served: Served, keys: RepositoryKeys, tmp_path: Path
) -> None:
    release = build(tmp_path / "release")
    async with served.api() as api:
        store = HttpsStore(api, FQRN)
        made = await publish(store, keys, FQRN, [Change(release, "/Tool/1")], NOW)
        assert (made.number, made.changed) == (1, True)
        assert not (await publish(store, keys, FQRN, [Change(release, "/Tool/1")], NOW)).changed
        (release / "bin/tool").write_text("two")
        second = await publish(store, keys, FQRN, [Change(release, "/Tool/1")], NOW)
        assert (second.number, second.new_objects) == (2, 1 + 2)  # the file; catalog and tag database
        told = await api.get(f"/v1/repositories/{FQRN}/manifest")
        assert (told["revision"], told["root"]) == (2, second.root)
        assert await store.get(object_path("a" * 40)) is None
    async with httpx.AsyncClient(verify=served.tls, trust_env=False) as client:
        fetch = http_fetch(client, f"{served.url}/cvmfs/{FQRN}")
        got = await materialise(fetch, FQRN, keys.master_public, "/Tool/1", tmp_path / "out", NOW)
        listed = (await client.get(f"{served.url}/cvmfs/info/v1/repositories.json")).json()
    assert got.number == 2
    for place in release.rglob("*"):
        copy = tmp_path / "out" / place.relative_to(release)
        assert copy.is_symlink() == place.is_symlink()
        assert place.is_dir() or copy.read_bytes() == place.read_bytes()
    assert listed["repositories"] == [{"name": FQRN, "url": f"/cvmfs/{FQRN}"}]


async def test_two_publishers_at_once_both_end_up_in(
    served: Served, keys: RepositoryKeys, tmp_path: Path
) -> None:
    places = [build(tmp_path / f"r{n}", f"text {n}") for n in range(3)]
    async with served.api() as api:
        made = await asyncio.gather(
            *(
                publish(HttpsStore(api, FQRN), keys, FQRN, [Change(place, f"/T/{n}")], NOW)
                for n, place in enumerate(places)
            )
        )
        assert sorted(revision.number for revision in made) == [1, 2, 3]
        for n in range(3):
            assert not (
                await publish(HttpsStore(api, FQRN), keys, FQRN, [Change(places[n], f"/T/{n}")], NOW)
            ).changed


async def test_without_the_role_nothing_is_read_or_written(
    served: Served, keys: RepositoryKeys, tmp_path: Path
) -> None:
    async with served.api("stolen") as api:
        with pytest.raises(NotAllowed):
            await publish(HttpsStore(api, FQRN), keys, FQRN, [Change(build(tmp_path / "r"), "/T/1")], NOW)
        for call in ("missing", "objects", "commit", "whitelist"):
            with pytest.raises(NotAllowed):
                await api.post(f"/v1/repositories/{FQRN}/{call}", {})
    assert list(served.repositories.root.iterdir()) == []


async def test_bad_bodies_are_refused_by_name(served: Served) -> None:
    base = f"/v1/repositories/{FQRN}"
    name, _ = pack(b"x")
    async with served.api() as api:
        with pytest.raises(PermanentError, match="damaged"):
            await api.call("POST", f"{base}/objects", content=frame([(name, b"not x")]))
        with pytest.raises(UserError, match="ends inside an object"):
            await api.call("POST", f"{base}/objects", content=frame([pack(b"x" * 1000)])[:-1])
        with pytest.raises(UserError, match="not the name of a repository object"):
            await api.post(f"{base}/missing", {"hashes": ["../../etc/passwd"]})
        with pytest.raises(UserError, match="not JSON"):
            await api.call("POST", f"{base}/commit", content=b"{")
        with pytest.raises(UserError, match="not base64"):
            await api.post(f"{base}/commit", {"manifest": "!"})
        with pytest.raises(PermanentError, match="not a signed"):
            await api.post(f"{base}/commit", {})
        with pytest.raises(UserError, match="is not a repository name"):
            await api.post("/v1/repositories/nodots/missing", {"hashes": []})


@pytest.fixture(params=["local", "https"])
async def store(request: pytest.FixtureRequest, served: Served, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "local":
            yield LocalStore(tmp_path / "local" / FQRN)
        else:
            yield HttpsStore(await stack.enter_async_context(served.api()), FQRN)


async def test_contract_objects_are_stored_once_and_found(store: ObjectStore) -> None:
    one, two = pack(b"one"), pack(b"two" * 2_000_000)
    assert await store.missing([one[0], two[0]]) == {one[0], two[0]}
    assert await store.put([one, two]) == 2
    assert await store.put([one, two]) == 0
    assert await store.missing([one[0], two[0]]) == set()
    assert await store.missing([]) == set()
    assert await store.get(object_path(two[0])) == two[1]
    assert await store.get(object_path("f" * 40)) is None
    assert await store.get(".cvmfspublished") is None


async def test_contract_only_the_present_revision_is_replaced(
    store: ObjectStore, keys: RepositoryKeys, tmp_path: Path
) -> None:
    committed: list[Commit] = []

    class Listening:
        """Passes all on to ``store`` and remembers the commits."""

        lock, get, missing, put, renew = store.lock, store.get, store.missing, store.put, store.renew

        async def commit(self, commit: Commit) -> None:
            committed.append(commit)
            await store.commit(commit)

    release = build(tmp_path / "release")
    for number in (1, 2):
        (release / "bin/tool").write_text(f"version {number}")
        made = await publish(Listening(), keys, FQRN, [Change(release, "/T/1")], NOW)
        assert made.number == number
        await store.commit(committed[-1])  # a repeated commit is harmless
    with pytest.raises(PermanentError) as caught:
        await store.commit(committed[0])
    assert caught.value.facts["moved"] is True
    assert await store.get(".cvmfspublished") == committed[1].manifest
    await store.renew(committed[0].whitelist)
    assert await store.get(".cvmfswhitelist") == committed[0].whitelist
