"""Which addresses may be connected to."""

from __future__ import annotations

import pytest

from fieldwise.collect.addresses import checked_addresses, kind_of
from fieldwise.errors import DocumentError


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("93.184.215.14", "public"),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", "public"),
        ("10.1.2.3", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("100.64.0.1", "private"),
        ("fd12::1", "private"),
        ("fec0::1", "private"),
        ("64:ff9b:1::1", "private"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:8.8.8.8", "reserved"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::8.8.8.8", "public"),
        ("2002:7f00:1::", "loopback"),
        ("169.254.1.1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("169.254.169.254", "cloud metadata"),
        ("::ffff:169.254.169.254", "cloud metadata"),
        ("64:ff9b::a9fe:a9fe", "cloud metadata"),
        ("100.100.100.200", "cloud metadata"),
        ("168.63.129.16", "cloud metadata"),
        ("fd00:ec2::254", "cloud metadata"),
        ("203.0.113.9", "private"),
    ],
)
def test_an_address_is_judged_by_what_it_leads_to(address: str, kind: str) -> None:
    assert kind_of(address) == kind


def test_broadcast_and_reserved_addresses_are_not_public() -> None:
    assert "public" not in {kind_of("255.255.255.255"), kind_of("240.0.0.1"), kind_of("4000::1")}


def test_one_private_address_among_public_ones_refuses_the_host() -> None:
    with pytest.raises(DocumentError, match=r"not public, found a\.example at a private address") as caught:
        checked_addresses("a.example", 443, (), lambda host, port: ["93.184.215.14", "10.0.0.1"])
    assert caught.value.reason == "private_address"
    assert "collect.web.allow_private: [a.example]" in str(caught.value)


def test_a_named_host_may_be_private_whatever_its_spelling() -> None:
    assert checked_addresses("Intranet.Example.", 80, ("intranet.example",), lambda h, p: ["10.0.0.1"]) == ("10.0.0.1",)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1"])
def test_a_named_host_may_not_be_anything_else(address: str) -> None:
    with pytest.raises(DocumentError, match="never fetched"):
        checked_addresses("intranet.example", 80, ("intranet.example",), lambda h, p: [address])


def test_a_host_nobody_knows_is_told_by_name() -> None:
    def lookup(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    with pytest.raises(DocumentError, match=r"not known, found nowhere\.example") as caught:
        checked_addresses("nowhere.example", 80, (), lookup)
    assert caught.value.reason == "unreachable"
