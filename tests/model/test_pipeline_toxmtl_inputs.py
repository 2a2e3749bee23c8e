import numpy as np
import pytest
import torch
from datasets import Audio
from helpers import RATE, Decoder, as_read, assert_same, by_label, dataset_of, record, tone, wav
from transformers.pipelines.pt_utils import KeyDataset

from modeling_toxmtl.audio import resample


# --- inputs


def test_forms_of_a_clip(pipe, tmp_path):
    samples = tone(RATE)
    encoded = wav(samples)
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded)
    expected = pipe(as_read(samples))
    for clip in (
        str(path),
        path,
        encoded,
        torch.tensor(as_read(samples)),
        as_read(samples).astype(np.float64),
        (as_read(samples) * 2**15).astype(np.int16),
        {"array": (as_read(samples) * 2**15).astype(np.int32) << 16, "sampling_rate": RATE},
        {"array": as_read(samples), "sampling_rate": RATE},
        {"raw": as_read(samples), "sampling_rate": RATE},
        {"array": as_read(samples), "sampling_rate": RATE, "path": "elsewhere.wav"},
        {"bytes": encoded, "path": None},
        {"bytes": encoded, "path": "elsewhere.wav"},
        {"bytes": None, "path": str(path)},
    ):
        assert_same(pipe(clip), expected)


def test_other_sampling_rates_are_resampled(pipe, tmp_path):
    slow = 0.5 * np.sin(2 * np.pi * 300 * np.arange(8_000) / 8_000).astype(np.float32)  # a second at 8 kHz
    fast = 0.5 * np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE).astype(np.float32)
    expected = pipe(fast)
    for clip in ({"array": slow, "sampling_rate": 8_000}, wav(slow, 8_000)):
        assert_same(pipe(clip), expected, tolerance=0.02)
    wrong = pipe({"array": slow, "sampling_rate": RATE})  # half a second at 600 Hz
    assert max(abs(by_label(wrong)[label] - score) for label, score in by_label(expected).items()) > 0.02
    # one of several clips of different rates
    assert_same(pipe([fast, {"array": slow, "sampling_rate": 8_000}])[1], expected, tolerance=0.02)


def test_input_is_not_changed(pipe):
    clip = {"array": tone(RATE), "sampling_rate": RATE}
    pipe(clip)
    assert set(clip) == {"array", "sampling_rate"}
    np.testing.assert_array_equal(clip["array"], tone(RATE))


def test_lists_and_generators(pipe):
    clips = [tone(RATE, 300.0), tone(RATE // 2, 500.0), wav(tone(RATE * 3 // 2, 700.0))]
    expected = [pipe(clip) for clip in clips]
    for several in (clips, (clip for clip in clips)):
        verdicts = list(pipe(several))
        assert len(verdicts) == 3
        for verdict, alone in zip(verdicts, expected, strict=True):
            assert_same(verdict, alone)


@pytest.mark.parametrize("as_generator", [False, True])
def test_batches_change_nothing(pipe, as_generator):
    clips = [tone(samples, 200.0 + samples / 100, samples) for samples in (RATE, 40_000, RATE // 2, 2_000, 56_000)]
    options = {"window_seconds": 1.0, "stride_seconds": 1.0, "return_keywords": True}
    one = list(pipe(clips, batch_size=1, **options))
    three = list(pipe((clip for clip in clips) if as_generator else clips, batch_size=3, **options))
    assert len(three) == len(clips)
    for first, second in zip(one, three, strict=True):
        assert_same(first["labels"], second["labels"])
        assert first["keywords"] == [{**word, "score": pytest.approx(word["score"])} for word in second["keywords"]]
    # each second has both keywords, each half second "damn" alone
    assert [len(verdict["keywords"]) for verdict in one] == [2, 5, 1, 0, 7]


def test_no_clips(pipe):
    assert pipe([]) == list(pipe(iter([]))) == []


class Clips(torch.utils.data.Dataset):
    def __init__(self, clips):
        self.clips = clips

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        return self.clips[index]


class ClipStream(torch.utils.data.IterableDataset):
    def __init__(self, clips):
        self.clips = clips

    def __iter__(self):
        return iter(self.clips)


def test_decoded_audio(pipe):
    """A decoder, rows and columns of them, and the data sets of transformers and torch."""
    samples = [tone(RATE, 300.0), tone(RATE // 2, 500.0)]
    expected = [pipe(clip) for clip in samples]
    decoders = [Decoder(samples[0], samples[0]), Decoder(samples[1])]
    rows = [{"audio": decoder, "labels": ["Other"]} for decoder in decoders]
    assert_same(pipe(decoders[0]), expected[0])
    assert_same(pipe(rows[1]), expected[1])
    streams = (iter(decoders), KeyDataset(Clips(rows), "audio"), Clips(decoders), ClipStream(rows))
    for several in (decoders, rows, *streams):
        verdicts = list(pipe(several, batch_size=2))
        assert len(verdicts) == 2
        for verdict, alone in zip(verdicts, expected, strict=True):
            assert_same(verdict, alone)
    fast = resample(samples[0], RATE, 48_000)
    assert_same(pipe(Decoder(fast, rate=48_000)), pipe({"array": fast, "sampling_rate": 48_000}))


def test_torchcodec(pipe, tmp_path):
    decoders = pytest.importorskip("torchcodec.decoders")
    (tmp_path / "clip.wav").write_bytes(wav(tone(RATE)))
    assert_same(pipe(decoders.AudioDecoder(str(tmp_path / "clip.wav"))), pipe(as_read(tone(RATE))))


def test_datasets_stream(pipe):
    clips = [wav(tone(RATE, 300.0)), wav(tone(RATE // 2, 500.0))]
    expected = [pipe(clip) for clip in clips]
    table = dataset_of(*(record(f"clip-{index}", clip) for index, clip in enumerate(clips)))
    table = table.cast_column("audio", Audio(decode=False))
    for rows in (table, table["audio"], table.to_iterable_dataset(), tuple(clips)):
        verdicts = pipe(rows, batch_size=2)
        assert not isinstance(verdicts, list)  # nothing is heard before it is asked for
        for verdict, alone in zip(verdicts, expected, strict=True):
            assert_same(verdict, alone)
    assert_same(pipe(table[0]), expected[0])


# --- errors


def test_bad_clips(pipe, tmp_path):
    shortest = pipe.model.config.receptive_field
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(ValueError, match=f"{shortest - 1} samples at 16000 Hz, .* at least {shortest}"):
        pipe(tone(shortest - 1))
    with pytest.raises(ValueError, match="text.wav cannot be read"):
        pipe(str(tmp_path / "text.wav"))
    with pytest.raises(ValueError, match="<8 bytes> cannot be read"):
        pipe(b"no audio")
    with pytest.raises(FileNotFoundError, match="gone.wav"):
        pipe(str(tmp_path / "gone.wav"))
    with pytest.raises(ValueError, match=r"\(samples,\), but has \(2, 16000\): average its channels"):
        pipe(np.stack([tone(RATE)] * 2))
    with pytest.raises(ValueError, match="The waveform holds samples that are NaN or infinite"):
        pipe(np.where(np.arange(RATE) == 5, np.nan, tone(RATE)))
    with pytest.raises(ValueError, match="floats from -1 to 1, int16 or int32, but is of uint8"):
        pipe(np.zeros(RATE, dtype=np.uint8))
    with pytest.raises(ValueError, match="A waveform must"):
        pipe({"audio": [Decoder(tone(RATE))]})  # a slice of a data set: columns, not rows
    with pytest.raises(ValueError, match="`array` and `sampling_rate`"):
        pipe({"array": tone(RATE)})
    with pytest.raises(ValueError, match="`array` and `sampling_rate`"):
        pipe({"sound": tone(RATE), "sampling_rate": RATE})
