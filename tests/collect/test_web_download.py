"""The downloader against a server that misbehaves."""

from __future__ import annotations

import gzip
import io
import time
import zlib
from email.utils import formatdate
from typing import Any

import pytest
from web_server import HOST, FakeClock, Reply, Server, html, redirect

from fieldwise import __version__
from fieldwise.collect.addresses import system_lookup
from fieldwise.collect.download import Downloader, Fetched, Wish, _Members, normal_url
from fieldwise.collect.settings import WebSettings
from fieldwise.errors import DocumentError

LIMIT = 1_000_000


class Client:
    """A downloader that may reach loopback, with a clock that does not wait."""

    def __init__(self, clock: FakeClock, lookup: Any = system_lookup, **settings: Any) -> None:
        wanted = {"allow_private": (HOST,), "delay_seconds": 0, **settings}
        self.clock = clock
        self.downloader = Downloader(WebSettings.model_validate(wanted), lookup=lookup, clock=clock.clock)

    def fetch(self, url: str, **wish: Any) -> tuple[Fetched, bytes]:
        sink = io.BytesIO()
        fetched = self.downloader.fetch(Wish(url, wish.pop("max_bytes", LIMIT), **wish), sink)
        return fetched, sink.getvalue()

    def refused(self, url: str, **wish: Any) -> DocumentError:
        with pytest.raises(DocumentError) as caught:
            self.fetch(url, **wish)
        return caught.value


@pytest.fixture
def client(clock: FakeClock) -> Client:
    return Client(clock)


# ---------------------------------------------------------------- what goes right


def test_a_page_comes_with_what_the_server_says_of_it(server: Server, client: Client) -> None:
    server.pages["/a"] = html("Garden", ETag='"v1"', **{"Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"})
    fetched, body = client.fetch(server.url("/a"))
    assert b"Garden" in body
    assert fetched.bytes == len(body)
    assert (fetched.content_type, fetched.etag, fetched.last_modified) == (
        "text/html",
        '"v1"',
        "Mon, 02 Nov 2026 10:00:00 GMT",
    )


def test_requests_name_the_product_and_carry_no_cookies(server: Server, client: Client) -> None:
    server.pages["/a"] = html("A", **{"Set-Cookie": "session=1; Path=/"})
    server.pages["/b"] = html("B")
    client.fetch(server.url("/a"))
    client.fetch(server.url("/b"))
    assert {h["user-agent"] for h in server.headers} == {f"fieldwise/{__version__}"}
    assert all("cookie" not in h and "referer" not in h for h in server.headers)


def test_a_proxy_of_the_environment_is_not_used(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.pages["/a"] = html("A")
    assert client.fetch(server.url("/a"))[0].bytes > 0


def test_gzip_is_unpacked_in_all_its_members(server: Server, client: Client) -> None:
    packed = gzip.compress(b"first " * 50_000) + gzip.compress(b"second")
    server.pages["/a"] = Reply(packed, headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"})
    fetched, body = client.fetch(server.url("/a"))
    assert body == b"first " * 50_000 + b"second"
    assert fetched.bytes == len(body)


def test_the_licence_of_a_link_header_is_kept_as_a_whole_address(server: Server, client: Client) -> None:
    server.pages["/a"] = html("A", Link='</next>; rel="next", </terms>; rel="license"')
    assert client.fetch(server.url("/a"))[0].licence == server.url("/terms")


def test_what_is_unchanged_is_told_by_the_server(server: Server, client: Client) -> None:
    server.pages["/a"] = Reply(status=304, headers={})
    fetched, body = client.fetch(
        server.url("/a"), known_url=server.url("/a"), etag='"v1"', last_modified="Mon, 02 Nov 2026 10:00:00 GMT"
    )
    assert fetched.is_unchanged and body == b""
    assert server.headers[-1]["if-none-match"] == '"v1"'
    assert server.headers[-1]["if-modified-since"] == "Mon, 02 Nov 2026 10:00:00 GMT"


def test_unchanged_without_being_asked_is_a_failure(server: Server, client: Client) -> None:
    server.pages["/a"] = Reply(status=304, headers={})
    assert client.refused(server.url("/a")).reason == "http_304"


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_to_the_final_address(server: Server, client: Client, status: int) -> None:
    server.pages |= {"/a": redirect("/b#part", status), "/b": html("B")}
    assert client.fetch(server.url("/a"))[0].final_url == server.url("/b")


def test_a_redirect_to_a_private_address_is_refused_before_anything_is_sent(server: Server, clock: FakeClock) -> None:
    private = Server()

    def lookup(host: str, port: int) -> list[str]:
        return {HOST: [HOST], "inside.example": ["127.0.0.1"]}[host]

    server.pages["/a"] = redirect(f"http://inside.example:{private.port}/secret")
    error = Client(clock, lookup).refused(server.url("/a"))
    private.close()
    assert error.reason == "private_address"
    assert private.asked == []


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "http://0.0.0.0/"]
)
def test_a_redirect_to_cloud_metadata_is_refused(server: Server, clock: FakeClock, target: str) -> None:
    server.pages["/a"] = redirect(target)
    allowed = ["127.0.0.1", "169.254.169.254", "0.0.0.0", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe"]
    assert Client(clock, allow_private=allowed).refused(server.url("/a")).reason == "private_address"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]"])
def test_loopback_is_refused_however_it_is_written(server: Server, clock: FakeClock, host: str) -> None:
    error = Client(clock, allow_private=()).refused(f"http://{host}:{server.port}/a")
    assert error.reason in ("private_address", "bad_url")
    assert server.asked == []


def test_redirects_in_a_circle_end(server: Server, client: Client) -> None:
    server.pages |= {"/a": redirect("/b"), "/b": redirect("/a")}
    error = client.refused(server.url("/a"))
    assert (error.reason, error.what) == ("redirects", "the redirects go round in a circle")
    assert server.pages_asked() == ["/a", "/b"]


def test_redirects_without_end_end(server: Server, client: Client) -> None:
    server.pages |= {f"/{n}": redirect(f"/{n + 1}") for n in range(20)}
    assert client.refused(server.url("/0")).what == "more than 5 redirects"
    assert server.pages_asked() == [f"/{n}" for n in range(6)]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://a.example/x", "http://me:pw@a.example/", "http://"])
def test_a_redirect_out_of_the_web_is_refused(server: Server, client: Client, target: str) -> None:
    server.pages["/a"] = redirect(target)
    error = client.refused(server.url("/a"))
    assert error.reason == "redirects"
    assert "pw" not in str(error)


# ---------------------------------------------------------------- names that change their address


def test_a_host_is_looked_up_once_and_the_connection_goes_to_what_was_judged(server: Server, clock: FakeClock) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) <= 2 else ["10.0.0.1"]  # robots.txt, then the page

    server.pages["/a"] = html("A")
    client = Client(clock, rebinding, allow_private=("docs.example",))
    assert client.fetch(f"http://docs.example:{server.port}/a")[0].bytes > 0
    assert asked == ["docs.example"] * 2
    assert server.headers[-1]["host"] == f"docs.example:{server.port}"


def test_a_name_that_turns_private_after_robots_txt_is_refused(server: Server, clock: FakeClock) -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    client = Client(clock, lambda host, port: next(answers), allow_private=("docs.example",))
    assert client.refused(f"http://docs.example:{server.port}/a").reason == "private_address"
    assert server.asked == ["/robots.txt"]


def test_the_next_address_of_a_host_is_tried(server: Server, clock: FakeClock) -> None:
    server.pages["/a"] = html("A")
    client = Client(clock, lambda host, port: ["127.0.0.2", "127.0.0.1"], allow_private=("docs.example",))
    assert client.fetch(f"http://docs.example:{server.port}/a")[0].bytes > 0


def test_a_server_that_is_not_there_is_told_and_asked_once(clock: FakeClock) -> None:
    gone = Server()
    gone.close()
    client = Client(clock)
    error = client.refused(gone.url("/a"))
    assert error.reason == "unreachable"
    assert client.refused(gone.url("/b")) is error, "what is known of a host is not asked again"
    assert clock.slept == []


# ---------------------------------------------------------------- time and size


def endless(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
    while True:
        handler.wfile.write(b"words " * 10_000)


def test_an_endless_answer_stops_at_the_size_limit(server: Server, client: Client) -> None:
    server.pages["/a"] = Reply(raw=endless)
    error = client.refused(server.url("/a"))
    assert (error.reason, error.found) == ("too_large", "more than 1.0 MB")


def test_a_size_that_is_announced_is_refused_before_the_body(server: Server, client: Client) -> None:
    server.pages["/a"] = Reply(b"x", headers={"Content-Type": "text/plain"}, length=5_000_000)
    assert client.refused(server.url("/a")).found == "5.0 MB"


def test_a_gzip_bomb_stops_at_the_size_limit_in_unpacked_bytes(server: Server, client: Client) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    assert len(bomb) < LIMIT / 3
    server.pages["/a"] = Reply(bomb, headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"})
    sink = io.BytesIO()
    with pytest.raises(DocumentError) as caught:
        client.downloader.fetch(Wish(server.url("/a"), LIMIT), sink)
    assert caught.value.reason == "too_large"
    assert len(sink.getvalue()) <= LIMIT


def test_a_gzip_bomb_is_given_out_in_small_parts() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    parts = [len(part) for part in _Members().parts(bomb)]
    assert sum(parts) == 20_000_000
    assert max(parts) <= 1 << 16


def dripping(start: bytes, server: Server) -> Any:
    def drip(handler: Any) -> None:
        handler.wfile.write(start)
        while not server.stopping.wait(0.02):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    return drip


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"],
    ids=["status line", "headers", "body"],
)
def test_a_drip_of_bytes_ends_with_the_time_for_the_whole(server: Server, clock: FakeClock, start: bytes) -> None:
    server.pages["/a"] = Reply(raw=dripping(start, server))
    client = Client(clock, timeout_seconds=0.5, read_timeout_seconds=5)
    began = time.monotonic()
    error = client.refused(server.url("/a"))
    assert error.reason == "timeout"
    assert time.monotonic() - began < 3


def test_a_silent_server_is_given_up_after_the_read_time(server: Server, clock: FakeClock) -> None:
    server.pages["/a"] = Reply(raw=lambda handler: server.stopping.wait(5))
    began = time.monotonic()
    error = Client(clock, read_timeout_seconds=0.3).refused(server.url("/a"))
    assert error.reason == "timeout"
    assert "collect.web.read_timeout_seconds" in str(error)
    assert time.monotonic() - began < 3


# ---------------------------------------------------------------- kinds


@pytest.mark.parametrize("content_type", ["application/pdf", "application/octet-stream", ""])
def test_what_claims_to_be_a_pdf_must_begin_like_one(server: Server, client: Client, content_type: str) -> None:
    server.pages["/a.pdf"] = Reply(b"<html>Please log in</html>", headers={"Content-Type": content_type})
    error = client.refused(server.url("/a.pdf"))
    assert (error.reason, error.found) == ("mislabelled", "another content in place of a PDF file")


def test_a_long_false_pdf_is_left_at_its_beginning(server: Server, client: Client) -> None:
    def page(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\nConnection: close\r\n\r\n")
        while True:
            handler.wfile.write(b"<p>no</p>" * 1000)

    server.pages["/a"] = Reply(raw=page)
    assert client.refused(server.url("/a"), max_bytes=10**12).reason == "mislabelled"


def test_a_page_that_says_it_is_one_may_be_named_like_a_pdf(server: Server, client: Client) -> None:
    server.pages["/File:a.pdf"] = html("About a.pdf")
    assert b"About" in client.fetch(server.url("/File:a.pdf"))[1]


def test_pdf_only_refuses_a_page_and_takes_a_pdf(server: Server, client: Client) -> None:
    server.pages |= {
        "/a.pdf": html("Log in"),
        "/b": Reply(b"%PDF-1.7 words", headers={"Content-Type": "application/pdf"}),
        "/c": Reply(b"PK\x03\x04", headers={"Content-Type": "application/zip"}),
    }
    assert client.refused(server.url("/a.pdf"), pdf_only=True).reason == "not_pdf"
    assert client.refused(server.url("/c"), pdf_only=True).reason == "not_pdf"
    assert client.fetch(server.url("/b"), pdf_only=True)[1] == b"%PDF-1.7 words"


def test_a_picture_is_left_before_its_body(server: Server, client: Client) -> None:
    server.pages["/a"] = Reply(b"", headers={"Content-Type": "image/png"}, length=10)
    error = client.refused(server.url("/a"))
    assert (error.reason, error.found) == ("unknown_type", "image/png")


def test_a_compression_nobody_asked_for_is_refused(server: Server, client: Client) -> None:
    server.pages["/a"] = Reply(b"x", headers={"Content-Type": "text/html", "Content-Encoding": "br"})
    assert client.refused(server.url("/a")).reason == "broken"


# ---------------------------------------------------------------- another try


def test_a_server_that_recovers_is_asked_again_after_growing_pauses(server: Server, client: Client) -> None:
    server.pages["/a"] = [Reply(status=500), Reply(status=502), html("A")]
    assert b"says: A" in client.fetch(server.url("/a"))[1]
    assert client.clock.slept == [1, 2]


def test_a_server_that_does_not_recover_is_given_up(server: Server, client: Client) -> None:
    server.pages["/a"] = Reply(status=500)
    error = client.refused(server.url("/a"))
    assert (error.reason, error.found) == ("http_500", "status 500")
    assert server.count("/a") == 4


@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_a_server_asks_for_is_kept(server: Server, client: Client, status: int) -> None:
    asks = Reply(status=status, headers={"Retry-After": "7"})
    date = Reply(status=status, headers={"Retry-After": formatdate(client.clock.wall_time + 20, usegmt=True)})
    server.pages["/a"] = [asks, date, html("A")]
    client.fetch(server.url("/a"))
    assert client.clock.slept == [7, 20]


def test_a_pause_that_is_too_long_rejects_the_page_at_once(server: Server, client: Client) -> None:
    server.pages["/a"] = Reply(status=429, headers={"Retry-After": "86400"})
    error = client.refused(server.url("/a"))
    assert (error.reason, error.found) == ("http_429", "status 429, to be asked again in 86400 s")
    assert client.clock.slept == []
    assert server.count("/a") == 1


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_asked_again(server: Server, client: Client, status: int) -> None:
    server.pages["/a"] = Reply(status=status)
    assert client.refused(server.url("/a")).reason == f"http_{status}"
    assert server.count("/a") == 1


def test_a_transfer_that_is_cut_off_is_tried_again_and_starts_anew(server: Server, client: Client) -> None:
    server.pages["/a"] = [Reply(b"half of it", length=100), html("whole")]
    _, body = client.fetch(server.url("/a"))
    assert body.startswith(b"<!DOCTYPE") and client.clock.slept == [1]


@pytest.mark.parametrize(
    "half",
    [
        Reply(b"half of it", length=100),
        Reply(
            gzip.compress(b"words " * 9000)[:-20], headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"}
        ),
        Reply(raw=lambda handler: None),
    ],
    ids=["length", "gzip", "nothing"],
)
def test_a_transfer_that_is_always_cut_off_is_rejected(server: Server, client: Client, half: Reply) -> None:
    server.pages["/a"] = half
    assert client.refused(server.url("/a")).reason == "cut_off"
    assert server.count("/a") == 4


# ---------------------------------------------------------------- manners


def test_what_robots_txt_forbids_is_not_asked_for(server: Server, client: Client) -> None:
    server.pages |= {"/robots.txt": Reply(b"User-agent: *\nDisallow: /no\n"), "/no": html("No"), "/yes": html("Yes")}
    assert client.refused(server.url("/no")).reason == "robots"
    client.fetch(server.url("/yes"))
    assert server.asked == ["/robots.txt", "/yes"]


def test_a_redirect_into_what_robots_txt_forbids_is_not_followed(server: Server, client: Client) -> None:
    server.pages |= {
        "/robots.txt": Reply(b"User-agent: fieldwise\nDisallow: /no\n"),
        "/a": redirect("/no"),
        "/no": html("No"),
    }
    assert client.refused(server.url("/a")).reason == "robots"
    assert "/no" not in server.asked


def test_a_robots_txt_that_cannot_be_read_forbids_all_and_one_that_is_missing_nothing(
    server: Server, client: Client
) -> None:
    server.pages |= {"/robots.txt": Reply(status=503), "/a": html("A")}
    error = client.refused(server.url("/a"))
    assert (error.reason, error.what) == (
        "robots",
        "robots.txt of the host cannot be read, so nothing of it is fetched",
    )
    assert "/a" not in server.asked


def test_a_robots_txt_that_recovers_or_moves_is_read(server: Server, client: Client) -> None:
    server.pages |= {
        "/robots.txt": [Reply(status=503), redirect("/moved.txt")],
        "/moved.txt": Reply(b"User-agent: *\nDisallow: /no\n"),
    }
    assert client.refused(server.url("/no")).what == "robots.txt of the host forbids to fetch it"


def test_a_host_is_given_its_pause(server: Server, clock: FakeClock) -> None:
    server.pages |= {"/a": html("A"), "/b": html("B")}
    client = Client(clock, delay_seconds=2)
    client.fetch(server.url("/a"))
    client.fetch(server.url("/b"))
    assert len(clock.slept) == 2
    assert all(1.5 < seconds <= 2 for seconds in clock.slept)


def test_the_pause_of_robots_txt_is_kept_and_does_not_use_up_the_time(server: Server, clock: FakeClock) -> None:
    server.pages |= {"/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 30\n"), "/a": redirect("/b"), "/b": html("B")}
    Client(clock, timeout_seconds=20).fetch(server.url("/a"))
    assert 29 < max(clock.slept) <= 30


def test_a_pause_of_robots_txt_beyond_the_limit_rejects(server: Server, client: Client) -> None:
    server.pages |= {"/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 3600\n"), "/a": html("A")}
    error = client.refused(server.url("/a"))
    assert (error.reason, error.found) == ("robots", f"3600 s at {HOST}")


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTP://Example.org:80/a b#top", "http://example.org/a%20b"),
        ("https://example.org", "https://example.org/"),
        (" https://example.org/ä?q=ü ", "https://example.org/%C3%A4?q=%C3%BC"),
        ("https://exämple.org/", "https://xn--exmple-cua.org/"),
    ],
)
def test_an_address_has_one_spelling(url: str, normal: str) -> None:
    assert normal_url(url) == normal


@pytest.mark.parametrize(
    "url", ["http://", "https:///x", "ftp://a.example/", "http://a b/", "http://a:99999/", "words", "http://u:secret@a.example/", "http://xn--a/", "http://a\nb/"]
)  # fmt: skip
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(DocumentError) as caught:
        normal_url(url)
    assert caught.value.reason == "bad_url"
    assert "secret" not in str(caught.value)
