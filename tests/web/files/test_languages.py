"""Language negotiation.  Without sockets."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from daemons.httpd import Httpd
from daemons.web.files.languages import LANGUAGES, best
from tests.web.example_site import TEXT, WRITTEN, ask, make, service

THERE = ("en", "fr", "de-CH")


@pytest.mark.parametrize(
    ("accepted", "tag"),
    [
        (None, "en"),
        ("", "en"),
        ("*", "en"),
        ("fr", "fr"),
        ("FR", "fr"),
        ("fr;q=0.5, en;q=0.4", "fr"),
        ("en;q=0.4,fr;q=0.5", "fr"),
        ("fr, en", "fr"),
        ("en, fr", "en"),
        ("fr-CH, en;q=0.9", "fr"),
        ("fr-CH;q=0.8, en;q=0.9", "en"),
        ("de", "de-CH"),
        ("de-DE", None),
        ("de-ch", "de-CH"),
        ("es", None),
        ("es, *;q=0.1", "en"),
        ("es, *;q=0.1, en;q=0", "fr"),
        ("en;q=0", None),
        ("*;q=0, de", "de-CH"),
        ("de-CH;q=0, de, fr;q=0.1", "fr"),
        ("fr;q=2, x y, en;q=0.1", "en"),
        ("f", None),
        (", ,fr", "fr"),
    ],
)
def test_preferred_language_is_selected(accepted: str | None, tag: str | None) -> None:
    assert best(accepted, THERE) == tag


@pytest.fixture
def site(tmp_path: Path) -> Httpd:
    root = make(tmp_path)
    said = {
        "index.html.en": b"the castle",
        "index.html.fr": b"le ch\xc3\xa2teau",
        "sub/index.html.fr": b"dessous",
        "only.html.fr": b"seulement",
        "text.txt.fr": TEXT[:-1],
        "text.txt.fr.gz": gzip.compress(TEXT[:-1], mtime=0),
        "sub.fr": b"no folder",
    }
    for name, content in said.items():
        (tmp_path / "www" / name).write_bytes(content)
        os.utime(tmp_path / "www" / name, (WRITTEN, WRITTEN))
    (tmp_path / "www" / "text.txt.en").symlink_to("../secret.txt")
    return service(root, languages=("en", "fr"))


@pytest.mark.parametrize(
    ("path", "accepted", "body", "language", "vary"),
    [
        ("/", "fr", b"le ch\xc3\xa2teau", "fr", "Accept-Encoding, Accept-Language"),
        ("/", "*", b"the castle", "en", "Accept-Encoding, Accept-Language"),
        ("/", "es", b"<!DOCTYPE html><title>home</title>", None, "Accept-Encoding, Accept-Language"),
        ("/index.html", "fr", b"le ch\xc3\xa2teau", "fr", "Accept-Encoding, Accept-Language"),
        ("/index.html.en", "fr", b"the castle", "en", "Accept-Encoding"),
        ("/only.html", "es", b"seulement", "fr", "Accept-Encoding, Accept-Language"),
        ("/sub/", "en", b"below", None, "Accept-Encoding, Accept-Language"),
        ("/short.txt", "fr", b"short", None, "Accept-Encoding"),
        ("/picture.png", "fr", bytes(range(256)) * 4, None, None),
    ],
)
def test_response_has_the_language_of_the_selected_variant(
    site: Httpd, path: str, accepted: str, body: bytes, language: str | None, vary: str | None
) -> None:
    found = ask(site, path, f"Accept-Language: {accepted}")
    assert (found.status, found.body) == (200, body)
    assert (found.fields.get("Content-Language"), found.fields.get("Vary")) == (language, vary)
    media = "image/png" if path.endswith("png") else "text/plain" if path.endswith("txt") else "text/html"
    assert found.fields["Content-Type"].startswith(media)
    # 304 applies to the selected variant only.
    tag = f"If-None-Match: {found.fields['ETag']}"
    again = ask(site, path, f"Accept-Language: {accepted}", tag)
    assert (again.status, again.fields.get("Vary")) == (304, vary)
    if path == "/":
        assert ask(site, path, "Accept-Language: en", tag).status == (304 if language == "en" else 200)


def test_language_variants_are_compressed(site: Httpd) -> None:
    found = [
        ask(site, "/text.txt", f"Accept-Language: {language}", f"Accept-Encoding: {coding}")
        for language in ("fr", "es")
        for coding in ("gzip", "identity")
    ]
    assert [gzip.decompress(each.body) if index in (0, 2) else each.body for index, each in enumerate(found)] == [
        TEXT[:-1],
        TEXT[:-1],
        TEXT,
        TEXT,
    ]
    assert len({each.fields["ETag"] for each in found}) == 4
    assert {each.fields["Vary"] for each in found} == {"Accept-Encoding, Accept-Language"}


def test_folders_and_links_are_not_language_variants(site: Httpd) -> None:
    assert ask(site, "/sub", "Accept-Language: fr").fields["Location"] == "/sub/"
    # A symbolic link is not a variant.
    assert ask(site, "/text.txt", "Accept-Language: en").body == TEXT
    assert ask(site, "/nothing", "Accept-Language: fr").status == 404


def test_invalid_language_tags_are_refused() -> None:
    assert LANGUAGES.show(LANGUAGES.parse("en  fr de-CH")) == "en fr de-CH"
    for text, reason in (("en_GB", "en_GB: not a language"), ("en EN", "twice"), ("../x", "not a language")):
        with pytest.raises(ValueError, match=reason):
            LANGUAGES.parse(text)
