"""Replies and endings in transcripts do not depend on how the input is cut: at the seam, without a socket."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.service_binding import ServiceBinding
from tests.serving.conversation.uncached import Uncached
from tests.transcripts.transcripts import Transcript, cut_at_random, octet_by_octet, read, read_all, replay, service_of

TRANSCRIPTS = read_all()

every_transcript = pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=str)


#: Longer transcripts are neither cut into single bytes nor repeated a thousand times.
SHORT = 8192

#: Daemons that close after one message.
ONE_MESSAGE = {"sixteen", "streamer", "twoway", "welcome"}

TALKATIVE = [each for each in TRANSCRIPTS if each.daemon not in ONE_MESSAGE and len(each.sent) <= SHORT]

every_talkative_transcript = pytest.mark.parametrize("transcript", TALKATIVE, ids=str)


@pytest.fixture(params=[Uncached, ServiceBinding], ids=["no cache", "cache"])
def binding(request: pytest.FixtureRequest, transcript: Transcript) -> ServiceBinding:
    made: ServiceBinding = request.param(service_of(transcript.daemon))
    return made


@every_transcript
def test_transcript_in_one_piece(transcript: Transcript, binding: ServiceBinding) -> None:
    service = service_of(transcript.daemon)
    for _ in range(2):  # the second reply may come from the cache
        assert replay(service, [transcript.sent], binding) == (transcript.heard, transcript.ending)


@pytest.mark.parametrize("transcript", [each for each in TRANSCRIPTS if len(each.sent) <= SHORT], ids=str)
def test_transcript_byte_by_byte(transcript: Transcript, binding: ServiceBinding) -> None:
    service = service_of(transcript.daemon)
    for _ in range(2):
        assert replay(service, octet_by_octet(transcript.sent), binding) == (transcript.heard, transcript.ending)


@every_transcript
def test_transcript_cut_anywhere(transcript: Transcript, binding: ServiceBinding) -> None:
    service = service_of(transcript.daemon)
    for _ in range(25):
        assert replay(service, cut_at_random(transcript.sent), binding) == (transcript.heard, transcript.ending)


@every_talkative_transcript
def test_transcript_after_a_thousand_pipelined_conversations(transcript: Transcript, binding: ServiceBinding) -> None:
    service = service_of(transcript.daemon)
    long = transcript.after(1000, first_of(transcript.daemon))
    assert replay(service, [long.sent], binding) == (long.heard, long.ending)
    assert replay(service, cut_at_random(long.sent), binding) == (long.heard, long.ending)


@pytest.mark.parametrize("transcript", [each for each in TALKATIVE if each.ending is Ending.DONE], ids=str)
def test_transcript_pipelined_a_thousand_times(transcript: Transcript) -> None:
    long = transcript.after(1000, transcript)
    assert replay(service_of(transcript.daemon), [long.sent]) == (long.heard, long.ending)


@pytest.mark.parametrize("daemon", sorted({each.daemon for each in TRANSCRIPTS} - ONE_MESSAGE))
def test_a_thousand_pipelined_conversations_take_under_eight_mebibytes(daemon: str) -> None:
    service, long = service_of(daemon), first_of(daemon).after(1000, first_of(daemon))
    tracemalloc.start()
    try:
        replay(service, [long.sent])
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "wrong",
    ["hello", "> before a title", "[x]\n< no end\n= nonsense", "[x]\n= done\n> after the end", "[x]\n>nine a"],
)
def test_invalid_transcript_is_a_value_error(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(wrong)
    with pytest.raises(ValueError, match=r"^wrong.txt:\d+: "):
        read(path)


def test_every_transcript_has_an_ending() -> None:
    assert [str(each) for each in TRANSCRIPTS if each.ending is None] == []


def first_of(daemon: str) -> Transcript:
    """Return the first transcript of a daemon, which is its usual conversation."""
    return next(each for each in TRANSCRIPTS if each.daemon == daemon)
