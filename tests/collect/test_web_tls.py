"""https: the connection goes to the judged address, the certificate must be valid for the name."""

from __future__ import annotations

import datetime
import io
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from web_server import FakeClock, Server, html

from fieldwise.collect.download import Downloader, Wish
from fieldwise.collect.settings import WebSettings
from fieldwise.errors import DocumentError

x509 = pytest.importorskip("cryptography.x509")


def make_certificate(folder: Path, host: str) -> Path:
    """A certificate of its own for a host, with its key in the same file."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path, "docs.example")


@pytest.fixture
def secure(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Server(context)
    yield server
    server.close()


def fetch(server: Server, clock: FakeClock, host: str, ca_file: Path | None) -> bytes:
    settings = WebSettings(allow_private=(host,), delay_seconds=0, ca_file=str(ca_file) if ca_file else None)
    downloader = Downloader(settings, lookup=lambda host, port: ["127.0.0.1"], clock=clock.clock)
    sink = io.BytesIO()
    downloader.fetch(Wish(f"https://{host}:{server.port}/a", 100_000), sink)
    return sink.getvalue()


def test_a_certificate_that_is_trusted_for_the_name_is_taken(
    secure: Server, clock: FakeClock, certificate: Path
) -> None:
    secure.pages["/a"] = html("Secure")
    assert b"Secure" in fetch(secure, clock, "docs.example", certificate)
    assert secure.headers[-1]["host"] == f"docs.example:{secure.port}"


def test_a_certificate_for_another_name_is_refused(secure: Server, clock: FakeClock, certificate: Path) -> None:
    with pytest.raises(DocumentError, match=r"not valid for its name, found other\.example") as caught:
        fetch(secure, clock, "other.example", certificate)
    assert caught.value.reason == "certificate"
    assert secure.asked == []


def test_a_certificate_nobody_vouches_for_is_refused(secure: Server, clock: FakeClock) -> None:
    with pytest.raises(DocumentError) as caught:
        fetch(secure, clock, "docs.example", None)
    assert caught.value.reason == "certificate"
    assert "collect.web.ca_file" in str(caught.value)


def test_a_file_of_certificates_that_is_none_is_told(secure: Server, clock: FakeClock, tmp_path: Path) -> None:
    for content in (None, b"no certificate"):
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DocumentError, match=r"collect\.web\.ca_file: the certificates to trust cannot be read"):
            fetch(secure, clock, "docs.example", path)
