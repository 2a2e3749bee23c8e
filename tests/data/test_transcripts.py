import json

import pytest

from modeling_toxmtl.data import transcribe
from modeling_toxmtl.data.shards import Rejected, read_rows
from modeling_toxmtl.data.stages import WorkArguments, read_manifest
from modeling_toxmtl.data.transcribe import TranscribeStage
from modeling_toxmtl.data.transcripts import GivenTranscripts, Transcription, Word, split_phrases, spread_words


def test_phrases_end_at_pauses_and_at_the_end_of_sentences():
    words = [Word("no", 0.0, 0.2, 1), Word("way.", 0.3, 0.5, 1), Word("you", 0.6, 0.7, 1), Word("ok", 1.4, 1.5, 1)]
    phrases = [[word.word for word in phrase] for phrase in split_phrases(words, 0.5)]
    assert phrases == [["no", "way."], ["you"], ["ok"]]
    assert split_phrases([], 0.5) == []


def test_words_of_a_text_share_its_time_by_their_letters():
    assert spread_words("a bcd", 1.0, 4.0) == [Word("a", 1.0, 2.0, 1.0), Word("bcd", 2.0, 4.0, 1.0)]
    assert spread_words("", 1.0, 4.0) == []


def test_given_transcripts_go_to_the_chunk_in_which_they_are_said(tmp_path):
    path = tmp_path / "transcripts.csv"
    lines = [
        "path,track,start,end,text,language",
        "a.ogg,1,2,4,one two,en",
        "a.ogg,1,5,6,three,",
        "a.ogg,0,2,4,other,",
    ]
    path.write_text("\n".join(lines))
    given = GivenTranscripts(str(path))
    row = {"source_path": str(tmp_path / "a.ogg"), "track": 1, "start": 1.5, "end": 3.0}
    assert given.look_up(row) == Transcription([Word("one", 0.5, 1.5, 1.0)], "en", 1.0)
    assert given.look_up({**row, "track": 2}).words == []
    other = given.look_up({**row, "track": 0, "end": 5.0})
    assert ([word.word for word in other.words], other.language) == (["other"], "")  # another person


def test_given_words_are_in_the_order_in_which_they_are_said(tmp_path):
    """Where two utterances overlap, one is not said in the midst of the other."""
    (tmp_path / "words.csv").write_text("path,start,end,text\na.ogg,3,4,up\na.ogg,2,3,shut\na.ogg,1,3,oh do\n")
    row = {"source_path": str(tmp_path / "a.ogg"), "track": 0, "start": 0.0, "end": 9.0}
    words = GivenTranscripts(str(tmp_path / "words.csv")).look_up(row).words
    assert [(word.word, word.start) for word in words] == [("oh", 1.0), ("do", 2.0), ("shut", 2.0), ("up", 3.0)]


def test_words_in_no_chunk_are_counted_and_said(made, tmp_path):
    """Before, between and behind the chunks, and in a track that the file does not have."""
    lines, extra = (made / "transcripts.jsonl").read_text(), []
    for text, start, track in (("bastard", 0.1, 0), ("fool twice", 3.1, 0), ("end", 6.5, 0), ("elsewhere", 1.0, 3)):
        line = {"path": "raw/call-0.ogg", "track": track, "start": start, "end": start + 0.2, "text": text}
        extra.append(json.dumps(line) + "\n")
    (made / "outside.jsonl").write_text(lines + "".join(extra))
    stage = TranscribeStage(transcripts=str(made / "outside.jsonl"))
    chunks = [row for shard in read_manifest(made / "work", "chunk").shards for row in read_rows(shard.path)]
    (rejected,) = [row for row in stage(iter(chunks)) if isinstance(row, Rejected)]
    assert rejected.id == f"{made}/raw/call-0.ogg#0"
    assert rejected.reason == "4 of its 11 words are in no chunk, such as 'bastard' at 0.10 s"


def test_transcripts_of_tracks_that_there_are_not_are_named(made, caplog):
    line = '{"path": "raw/call-0.ogg", "track": 3, "start": 1, "end": 2, "text": "elsewhere"}\n'
    (made / "tracks.jsonl").write_text((made / "transcripts.jsonl").read_text() + line)
    with caplog.at_level("WARNING", logger="modeling_toxmtl.data.transcripts"):
        GivenTranscripts(str(made / "tracks.jsonl")).check_recordings(read_manifest(made / "work", "chunk"))
    assert caplog.messages == [
        f"--transcripts {made}/tracks.jsonl: recordings without the track {made}/raw/call-0.ogg#3."
    ]


@pytest.mark.parametrize("row", ["a.ogg,0,1,soon", "a.ogg,first,1,2"])
def test_given_times_that_are_no_numbers_are_named(tmp_path, row):
    (tmp_path / "transcripts.csv").write_text(f"path,track,start,end\na.ogg,0,1,2\n{row}\n")
    with pytest.raises(ValueError, match="transcripts.csv, row 2: `track`, `start` or `end` is no number"):
        GivenTranscripts(str(tmp_path / "transcripts.csv"))


@pytest.mark.parametrize("span", ["3.9,3.1", "nan,1", "0,nan", "1,inf", "-1,1"])
def test_given_times_that_are_no_span_are_named(tmp_path, span):
    (tmp_path / "transcripts.csv").write_text(f"path,start,end,text\na.ogg,1,2,hello\na.ogg,{span},you\n")
    with pytest.raises(ValueError, match="transcripts.csv, row 2: from .* s is no span"):
        GivenTranscripts(str(tmp_path / "transcripts.csv"))


def test_given_transcripts_need_a_text(tmp_path):
    (tmp_path / "transcripts.csv").write_text("path,start,end,transcript\na.ogg,1,2,hello\n")
    with pytest.raises(ValueError, match="transcripts.csv has no words: give them in a column `text`"):
        GivenTranscripts(str(tmp_path / "transcripts.csv"))


def test_transcripts_without_a_recording_are_named(made, tmp_path, caplog):
    lines = (made / "transcripts.jsonl").read_text()
    stray = '{"path": "raw/other.ogg", "start": 1, "end": 2, "text": "hello"}\n'
    table, chunks = made / "more.jsonl", read_manifest(made / "work", "chunk")
    table.write_text(lines + stray)
    with caplog.at_level("WARNING", logger="modeling_toxmtl.data.transcripts"):
        GivenTranscripts(str(table)).check_recordings(chunks)
    assert "1 of its 7 recordings were not chunked, such as" in caplog.text and "raw/other.ogg" in caplog.text
    (tmp_path / "moved.jsonl").write_text(lines)
    work = WorkArguments(str(made / "work"), num_proc=1)
    with pytest.raises(ValueError, match="6 of its 6 recordings .* is relative to the table"):
        transcribe.run(TranscribeStage(transcripts=str(tmp_path / "moved.jsonl")), work)
