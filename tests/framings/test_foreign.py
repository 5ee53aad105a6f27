"""Framings are compatible with Perl: each side decodes the messages that the other has encoded."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from daemons.framings import Blocks, Compressed, Framing, LengthPrefixed, Lines

MESSAGES = [b"Beautiful is better than ugly.\n", b"", b"a \\ and \\n and \0\r", bytes(range(256)) * 20]

#: (framing, Perl code to write $_ as a message, Perl code to read the next message from STDIN into $_, or end)
PERL: dict[str, tuple[Framing, str, str]] = {
    "prefix": (
        LengthPrefixed(limit=10_000),
        'print pack("N/a*", $_)',
        "read(STDIN, $n, 4) or last; read(STDIN, $_, unpack('N', $n)) if unpack('N', $n) or ($_ = '')",
    ),
    "prefix, the other order": (
        LengthPrefixed(limit=10_000, prefix="<H"),
        'print pack("v/a*", $_)',
        "read(STDIN, $n, 2) or last; read(STDIN, $_, unpack('v', $n)) if unpack('v', $n) or ($_ = '')",
    ),
    "blocks": (
        Blocks(limit=10_000),
        'print pack("(N/a*)*", unpack("(a1000)*", $_), "")',
        "read(STDIN, $n, 4) or last; $_ = '';"
        "while ($n = unpack('N', $n)) { read(STDIN, $_, $n, length); read(STDIN, $n, 4) }",
    ),
    "quoted lines": (
        Lines(limit=20_000, quoted=True),
        r's/\\/\\\\/g; s/\n/\\n/g; print "$_\n"',
        r'defined($_ = <STDIN>) or last; chomp; s/\\(.)/$1 eq "n" ? "\n" : $1/ge',
    ),
    "compressed": (
        Compressed(limit=10_000),
        "print Compress::Zlib::compress($_)",
        "$all //= do { local $/; <STDIN> }; length $all or last;$_ = Compress::Zlib::inflateInit()->inflate($all)",
    ),
}

#: Reads all messages, and sends each back with ! behind it.
ANSWER = "binmode STDIN; binmode STDOUT; while (1) {{ {read}; $_ .= '!'; {write} }}"


@pytest.mark.skipif(shutil.which("perl") is None, reason="perl is missing: apt-get install perl")
@pytest.mark.parametrize(("framing", "write", "read"), PERL.values(), ids=PERL)
def test_perl_decodes_our_messages_and_its_messages_are_decoded(framing: Framing, write: str, read: str) -> None:
    zlib = ["-MCompress::Zlib"] if isinstance(framing, Compressed) else []
    done = subprocess.run(
        ["perl", "-w", *zlib, "-e", ANSWER.format(read=read, write=write)],
        input=b"".join(map(framing.encode, MESSAGES)),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    decoder = framing.decoder()
    assert [*decoder.decode(done.stdout), *decoder.finish()] == [message + b"!" for message in MESSAGES]
    assert decoder.error is None
