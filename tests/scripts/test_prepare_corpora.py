import http.server
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import datasets
import numpy as np
import pytest
from helpers import tone, wav

from datasets_scripts.download import fetch
from datasets_scripts.prepare_corpora import (
    PrepareArguments,
    main,
    map_labels,
    read_clip_table,
    read_mapping,
    read_mutox,
    time_unit,
)
from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.data.stages import WorkArguments


MUTOX = ("id", "lang", "partition", "public_url_segment", "audio_file_transcript", "contains_toxicity")
MUTOX += ("toxicity_types", "perlocutionary_effects", "label", "etox_result", "detoxify_score")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; breaks off an answer in the middle for each name in `server.broken`; notes the ranges
    asked. Says the length of a whole file, and the place of a part."""

    def do_GET(self):
        name = self.path.strip("/")
        if name not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[name]
        asked = self.headers.get("Range")
        self.server.log.append((name, asked))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        end = len(content)
        if name in self.server.broken:
            self.server.broken.remove(name)
            end = start + (end - start) // 2
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.broken, server.log = {"talk.wav": wav(tone(5 * 16_000))}, [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_a_download_that_broke_off_goes_on_where_it_stopped(server, tmp_path):
    server.broken.append("talk.wav")
    path = fetch(f"{server.url}/talk.wav", tmp_path, pause=0)
    content = server.files["talk.wav"]
    assert path.read_bytes() == content
    assert server.log == [("talk.wav", None), ("talk.wav", f"bytes={len(content) // 2}-")]
    fetch(f"{server.url}/talk.wav", tmp_path)
    assert len(server.log) == 2  # it is there


def test_a_part_that_breaks_off_is_not_taken_for_the_rest(server, tmp_path):
    server.broken += ["talk.wav", "talk.wav"]
    assert fetch(f"{server.url}/talk.wav", tmp_path, pause=0).read_bytes() == server.files["talk.wav"]
    assert len(server.log) == 3


def test_a_file_that_several_ask_for_is_downloaded_once(server, tmp_path):
    with ThreadPoolExecutor(8) as executor:
        paths = list(executor.map(fetch, [f"{server.url}/talk.wav"] * 8, [tmp_path] * 8))
    assert {path.read_bytes() for path in paths} == {server.files["talk.wav"]}
    assert server.log == [("talk.wav", None)]


def test_a_dead_link_is_an_error_that_names_it(server, tmp_path):
    with pytest.raises(OSError, match="dead link: .*/gone.wav.*404"):
        fetch(f"{server.url}/gone.wav", tmp_path)


def write_mutox(path, rows):
    lines = ["\t".join(MUTOX)]
    lines += ["\t".join([*row, *[""] * (len(MUTOX) - len(row))]) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def test_mutox_becomes_a_data_set(server, tmp_path):
    talk, gone = f"{server.url}/talk.wav", f"{server.url}/gone.wav"
    rows = [
        ("a", "eng", "train", f"{talk} 500 2000", "you fool", "Yes", "Hate speech, Profanities"),
        ("b", "eng", "dev", f"{talk} 2000 3500", "a nice day", "No", ""),
        ("c", "spa", "train", f"{talk} 0 1000", "hola", "No", ""),
        ("d", "eng", "train", f"{gone} 0 1000", "hello", "No", ""),
        ("e", "eng", "train", f"{talk} 0 1000", "hm", "Cannot say", ""),
        ("f", "eng", "train", f"{talk} 9000 9900", "too late", "No", ""),
        ("g", "eng", "train", f"{talk} 0 900", "strange", "Yes", "Witchcraft"),
    ]
    write_mutox(tmp_path / "mutox.tsv", rows)
    args = PrepareArguments(str(tmp_path / "mutox.tsv"), "mutox", str(tmp_path / "data"), language="eng")
    work = WorkArguments(str(tmp_path / "work"), num_proc=1)
    main(args, work)
    data = datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    made = {row["id"]: row for split in data.values() for row in split}
    assert set(made) == {"a", "b"}
    assert made["a"]["labels"] == ["Profanity", "Racist"] and made["b"]["labels"] == ["NoViolation"]
    assert made["a"]["duration"] == 1.5 and made["a"]["transcript"] == "you fool"
    samples = load_audio(made["a"]["audio"]["bytes"])
    assert samples.tolist() == load_audio(server.files["talk.wav"])[8_000:32_000].tolist()
    reasons = map(json.loads, (tmp_path / "data" / "quarantine.jsonl").read_text().splitlines())
    reasons = {row["id"]: row["reason"] for row in reasons}
    assert set(reasons) == {"d", "e", "f", "g"}
    assert "404" in reasons["d"] and "Cannot say" in reasons["e"] and "5.00 s" in reasons["f"]
    assert reasons["g"] == "labels without mapping: Witchcraft"

    server.files["gone.wav"] = wav(tone(2 * 16_000))  # the link is alive again
    main(args, work)
    assert '"d"' not in (tmp_path / "data" / "quarantine.jsonl").read_text()
    assert [name for name, _ in server.log].count("talk.wav") == 1


@pytest.mark.parametrize(
    ("start", "end", "transcript", "units"),
    [
        (1_548_288, 1_590_272, "you little idiot. give it back", [16_000, 44_100, 48_000]),
        (1_548_288, 1_590_272, "you little idiot. give it back, you fool", [16_000]),  # nobody says so in a second
        (96_768, 99_392, "you little idiot. give it back", [1000]),
        (32_000, 40_000, "give it back", [16_000]),  # that milliseconds are in the file, too, does not count
        (32_000, 80_000, "这是一个测试句子今天天气很好", [16_000]),
        (2_000, 5_000, "これはテストです", [1000]),
        (2_000, 5_000, "यह एक परीक्षण वाक्य है", [1000]),
        (2_000, 5_000, "you **** **** ****", [1000]),
        (441_000, 661_500, "you little idiot. give it back", [44_100, 48_000]),
        (0, 1_000, "far too much text for so short a span, and far too little for sixteen of them" * 9, None),
        (5_000, 5_000, "nothing", None),
        (5_000, 2_000, "backwards", None),
        (2_000, 5_000, "", None),
    ],
)
def test_times_of_mutox_are_read_as_the_transcript_says(tmp_path, start, end, transcript, units):
    write_mutox(tmp_path / "mutox.tsv", [("a", "eng", "train", f"http://x/a.mp3 {start} {end}", transcript, "No")])
    (clip,) = read_mutox(tmp_path / "mutox.tsv", None, {})
    if units is None:
        assert "neither as milliseconds nor as samples" in clip["problem"]
    else:
        assert (clip["start"], clip["end"], clip["units"], clip["problem"]) == (start, end, units, "")


@pytest.mark.parametrize(
    ("start", "units", "rate", "seconds", "unit"),
    [
        (512_000, [16_000, 44_100], 16_000, 60, 16_000),  # a file of 16 kHz has no other samples
        (512_000, [16_000, 44_100], 44_100, 60, 16_000),  # where a detector of 16 kHz cuts
        (500_000, [16_000, 44_100], 44_100, 60, "16000 Hz and 44100 Hz: give milliseconds"),
        (500_000, [16_000, 44_100], 44_100, 20, 44_100),  # 16 kHz is not in the file
        (500_000, [16_000, 44_100, 48_000], 48_000, 20, 48_000),
        (500_000, [44_100], 44_100, 20, 44_100),
        (500_000, [16_000], 44_100, 20, "its span 31.25 to 34.375 s is not in the file of 20.00 s"),
        (500_000, [1000], 44_100, 20, "its span 500 to 550 s is not in the file"),
    ],
)
def test_times_of_mutox_are_read_as_the_file_says(start, units, rate, seconds, unit):
    clip = {"start": start, "end": start + 50_000, "units": units}
    if isinstance(unit, str):
        with pytest.raises(ValueError, match=unit):
            time_unit(clip, rate, seconds)
    else:
        assert time_unit(clip, rate, seconds) == unit


def test_samples_of_the_file_are_cut_as_such(tmp_path):
    """MuTox' times in samples of a file of 44.1 kHz that is too short for those of 16 kHz."""
    (tmp_path / "talk.wav").write_bytes(wav(tone(5 * 44_100, rate=44_100), rate=44_100))
    segment = f"{(tmp_path / 'talk.wav').as_uri()} 88200 176400"
    write_mutox(tmp_path / "mutox.tsv", [("a", "eng", "train", segment, "you little idiot give it", "No")])
    args = PrepareArguments(str(tmp_path / "mutox.tsv"), "mutox", str(tmp_path / "data"))
    main(args, WorkArguments(str(tmp_path / "work"), num_proc=1))
    data = datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    (row,) = [row for split in data.values() for row in split]
    expected = load_audio(tmp_path / "talk.wav")[32_000:64_000]
    np.testing.assert_allclose(load_audio(row["audio"]["bytes"]), expected, atol=1 / 32768)


def test_hidden_words_and_missing_transcripts_are_no_transcripts(tmp_path):
    """An empty transcript would teach the keyword head that nothing is said."""
    table = "path,labels,transcript\na.wav,Bullying,you ****\nb.wav,Bullying,\n"
    prepare_table(tmp_path, table, validation_share=0, test_share=0)
    (split,) = datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache")).values()
    assert [(row["labels"], row["transcript"]) for row in split] == [(["Bullying"], None)] * 2


def test_a_table_of_clips_in_other_corpora(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(tone(16_000)))
    (tmp_path / "clips.csv").write_text("path,labels,transcript,speaker,split\na.wav,toxic,you fool,ann,test\n")
    (tmp_path / "mapping.json").write_text('{"toxic": ["Bullying"], "clean": []}')
    args = PrepareArguments(
        str(tmp_path / "clips.csv"), "table", str(tmp_path / "data"), label_mapping=str(tmp_path / "mapping.json")
    )
    statistics = main(args, WorkArguments(str(tmp_path / "work"), num_proc=1))
    assert list(statistics) == ["test"] and statistics["test"]["hours"]["Bullying"] == pytest.approx(1 / 3600)


def prepare_table(folder, table, **options):
    """Prepares `clips.csv`, whose clips may be `a.wav` and `b.wav`."""
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(wav(tone(16_000)))
    (folder / "clips.csv").write_text(table)
    args = PrepareArguments(str(folder / "clips.csv"), "table", str(folder / "data"), **options)
    return main(args, WorkArguments(str(folder / "work"), num_proc=1))


def quarantine(folder):
    lines = (folder / "data" / "quarantine.jsonl").read_text().splitlines()
    return [tuple(json.loads(line).values()) for line in lines]


def test_a_repeated_id_is_quarantined(tmp_path):
    statistics = prepare_table(tmp_path, "id,path,labels,split\n1,a.wav,Other,train\n1,b.wav,Other,test\n")
    assert {split: figures["clips"] for split, figures in statistics.items()} == {"train": 1}
    assert quarantine(tmp_path) == [("1", "another clip has its id")]


def test_splits_of_other_names_are_refused_before_the_work(tmp_path):
    with pytest.raises(ValueError, match="Clip '1' has the split 'dev'"):
        prepare_table(tmp_path, "id,path,labels,split\n0,a.wav,Other,train\n1,b.wav,Other,dev\n")
    assert not (tmp_path / "work").exists()


def test_a_corpus_of_which_nothing_is_left_is_refused(tmp_path):
    list_of_rejected = tmp_path / "work" / "prepare" / "quarantine.jsonl"
    with pytest.raises(ValueError, match=f"No clip is left: {re.escape(str(list_of_rejected))} says why"):
        prepare_table(tmp_path, "path,labels\ngone.wav,Other\n")


def test_splits_of_an_earlier_run_are_replaced(tmp_path):
    table = "path,labels\na.wav,Other\nb.wav,Other\n"
    assert set(prepare_table(tmp_path, table, test_share=0.0, validation_share=0.4)) == {"train", "validation"}
    assert set(prepare_table(tmp_path, table, test_share=0.0, validation_share=0.0)) == {"train"}
    assert [path.name for path in (tmp_path / "data" / "data").iterdir()] == ["train-00000-of-00001.parquet"]


def test_a_data_set_of_the_pipeline_is_not_replaced(tmp_path):
    table = "path,labels\na.wav,Other\n"
    prepare_table(tmp_path, table)
    (tmp_path / "data" / "pipeline.json").touch()
    with pytest.raises(FileExistsError, match="choose another --output_dir"):
        prepare_table(tmp_path, table)


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="--validation_share 0.9"):
        PrepareArguments("clips.csv", "table", validation_share=0.9, test_share=0.9)


@pytest.mark.parametrize("corpus", ["librispeech", "common voice"])
def test_read_speech_has_no_violation(tmp_path, corpus):
    if corpus == "librispeech":
        folder = tmp_path / "84" / "121123"
        folder.mkdir(parents=True)
        (folder / "84-121123.trans.txt").write_text("84-121123-0000 GO DO YOU HEAR\n")
        (folder / "84-121123-0000.flac").write_bytes(wav(tone(16_000)))
    else:
        (tmp_path / "clips").mkdir()
        (tmp_path / "clips" / "one.mp3").write_bytes(wav(tone(16_000)))
        (tmp_path / "validated.tsv").write_text('client_id\tpath\tsentence\n84\tone.mp3\tgo do "you" hear\n')
    args = PrepareArguments(str(tmp_path), "folder", str(tmp_path / "data"))
    main(args, WorkArguments(str(tmp_path / "work"), num_proc=1))
    data = datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    (row,) = [row for split in data.values() for row in split]
    assert (row["labels"], row["speaker"]) == (["NoViolation"], "84")
    assert row["transcript"].startswith("go do")


def test_labels_are_mapped_and_not_guessed(tmp_path):
    (tmp_path / "mapping.json").write_text('{"Hate speech": ["Racist", "Bullying"], "clean": []}')
    mapping = read_mapping(str(tmp_path / "mapping.json"))
    assert map_labels(["hate Speech"], mapping) == ["Bullying", "Racist"]
    assert map_labels(["Clean"], mapping) == ["NoViolation"]
    with pytest.raises(ValueError, match="labels without mapping: rude"):
        map_labels(["rude", "clean"], mapping)
    with pytest.raises(ValueError, match="Bullying, NoViolation contradict each other"):
        map_labels(["spiteful", "harmless"], {"spiteful": ["Bullying"], "harmless": ["NoViolation"]})
    (tmp_path / "mapping.json").write_text('{"hate": ["Hate"]}')
    with pytest.raises(ValueError, match=r"--label_mapping .* gives \['Hate'\]"):
        read_mapping(str(tmp_path / "mapping.json"))


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("hate,,", "labels without mapping: hate"),
        (",,", "no labels"),
        ("Other,0.5,", "`start` is 0.5, but there is no `end`"),
        ("Other,0,soon", "`end` is 'soon', not seconds"),
        ("Other,-1,0.5", "`start` is '-1', not seconds"),
        ("Other,0,inf", "`end` is 'inf', not seconds"),
    ],
)
def test_rows_of_a_table_with_faults_are_quarantined(tmp_path, cells, reason):
    statistics = prepare_table(tmp_path, f"id,path,labels,start,end\n1,a.wav,{cells}\n2,b.wav,other,0,0.5\n")
    assert sum(figures["hours"]["Other"] for figures in statistics.values()) == pytest.approx(0.5 / 3600)
    assert quarantine(tmp_path) == [("1", reason)]


@pytest.mark.parametrize("segment", ["", "talk.wav", "talk.wav 0 soon"])
def test_rows_of_mutox_with_faults_are_quarantined(tmp_path, segment):
    (tmp_path / "talk.wav").write_bytes(wav(tone(16_000)))
    talk = (tmp_path / "talk.wav").as_uri()
    rows = [("a", "eng", "train", segment, "hello", "No"), ("b", "eng", "train", f"{talk} 0 500", "hello", "No")]
    write_mutox(tmp_path / "mutox.tsv", rows)
    args = PrepareArguments(str(tmp_path / "mutox.tsv"), "mutox", str(tmp_path / "data"))
    main(args, WorkArguments(str(tmp_path / "work"), num_proc=1))
    ((id, reason),) = quarantine(tmp_path)
    assert id == "a" and reason.endswith("not a URL with start and end")


def test_numbers_in_a_table_are_texts(tmp_path):
    (tmp_path / "clips.jsonl").write_text('{"id": 0, "path": "a.wav", "speaker": 0, "labels": []}\n')
    (row,) = read_clip_table(tmp_path / "clips.jsonl", {})
    assert (row["id"], row["speaker"], row["labels"]) == ("0", "0", ["NoViolation"])
