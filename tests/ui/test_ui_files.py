"""The files of the page, without a browser."""

from __future__ import annotations

import re

from fieldwise.ui import assets


def test_the_files_name_no_other_host_and_write_no_markup() -> None:
    for name, asset in assets().items():
        text = asset.content.decode("utf-8")
        hosts = {host for host in re.findall(r"https?://([\w.-]+)", text) if host != "www.w3.org"}
        assert not hosts, name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\son\w+=", text
        ), name


def test_everything_the_pages_and_modules_name_is_there() -> None:
    named = set()
    for asset in assets().values():
        text = asset.content.decode("utf-8")
        named |= set(re.findall(r'(?:src|href)="ui/([\w.]+)"', text)) | set(re.findall(r'from "\./([\w.]+)"', text))
    assert named and named <= set(assets())


def test_each_file_has_its_type_and_a_mark_of_its_content() -> None:
    files = assets()
    assert files["app.js"].media_type.startswith("text/javascript") and files["index.html"].media_type.startswith(
        "text/html"
    )
    assert len({asset.etag for asset in files.values()}) == len(files)
