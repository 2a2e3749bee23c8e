"""The voice-chat channel, checked against levels worked out by hand and against PyAV's own decoder."""

import numpy as np
import pytest

from datasets_scripts.effects import (
    BACKGROUND_KINDS,
    BIT_RATES,
    NOISE_KINDS,
    SAMPLING_RATES,
    SCENE_SNR_RANGE,
    SNR_RANGE,
    TALKERS,
    Channel,
    Scene,
    add_noise,
    add_room,
    apply_gain,
    clip_peaks,
    draw_channel,
    draw_scene,
    encode_opus,
    limit_band,
    make_noise,
    mix_talkers,
    record,
    send,
    telephone,
    transmit,
)
from modeling_toxmtl.audio import load_audio, resample


def tone(frequency=440.0, seconds=1.0, sampling_rate=16_000, amplitude=0.25):
    times = np.arange(int(seconds * sampling_rate)) / sampling_rate
    return (amplitude * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def decibels(ratio):
    return 10 * np.log10(ratio)


def band_power(samples, sampling_rate, low, high):
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / sampling_rate)
    return power[(frequencies >= low) & (frequencies < high)].sum() / power.sum()


@pytest.mark.parametrize("kind", BACKGROUND_KINDS)
@pytest.mark.parametrize("num_samples", [2, 1000, 22_051])
def test_noise_has_mean_power_one(kind, num_samples):
    noise = make_noise(kind, num_samples, 16_000, np.random.default_rng(0))
    assert noise.shape == (num_samples,) and noise.dtype == np.float32
    assert np.mean(noise**2) == pytest.approx(1.0, rel=1e-3)


def test_noise_kinds_have_their_spectra():
    noise = {kind: make_noise(kind, 160_000, 16_000, np.random.default_rng(1)) for kind in NOISE_KINDS}
    # White: power by bandwidth, 1 kHz of 8. Pink: the same power in every octave.
    assert band_power(noise["white"], 16_000, 1000, 2000) == pytest.approx(1 / 8, rel=0.05)
    octaves = [band_power(noise["pink"], 16_000, low, 2 * low) for low in (125, 250, 500, 1000, 2000, 4000)]
    assert max(octaves) / min(octaves) < 1.3
    assert band_power(noise["babble"], 16_000, 100, 4000) > 0.99
    assert band_power(noise["hum"], 16_000, 49, 490) > 0.99


def test_babble_swells_and_fades():
    def unevenness(kind):
        frames = make_noise(kind, 160_000, 16_000, np.random.default_rng(2)).reshape(-1, 800)  # 50 ms
        return np.std(np.sqrt(np.mean(frames**2, axis=1)))

    assert unevenness("babble") > 5 * unevenness("white")


def test_unknown_noise_is_refused():
    with pytest.raises(ValueError, match="'rain'.*white, pink, babble, hum"):
        make_noise("rain", 100, 16_000, np.random.default_rng(0))


@pytest.mark.parametrize("kind", BACKGROUND_KINDS)
@pytest.mark.parametrize("snr_db", [0.0, 10.0, 35.0])
def test_noise_lies_at_the_asked_snr(kind, snr_db):
    speech = tone()
    noise = make_noise(kind, len(speech), 16_000, np.random.default_rng(0))
    added = add_noise(speech, noise, snr_db) - speech
    assert decibels(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(snr_db, abs=0.5)


def test_gain_is_in_decibels_of_amplitude():
    np.testing.assert_allclose(apply_gain(np.float32([0.1, -0.2]), 20.0), [1.0, -2.0], rtol=1e-6)
    np.testing.assert_allclose(apply_gain(np.float32([0.1, -0.2]), -6.0206), [0.05, -0.1], rtol=1e-4)


def test_clipping_cuts_at_the_level_and_leaves_the_rest():
    np.testing.assert_array_equal(clip_peaks(np.float32([0.1, -0.9, 0.5]), 0.5), np.float32([0.1, -0.5, 0.5]))


def test_transmit_applies_noise_gain_and_clipping_in_this_order():
    speech = tone(amplitude=0.5)
    clean = Channel("white", snr_db=200.0, gain_db=-6.0206, clipping_level=0.4, sampling_rate=16_000, bit_rate=16_000)
    received = transmit(speech, 16_000, clean, np.random.default_rng(0))
    # The peak of 0.5 becomes 0.25, of which 40 % are 0.1.
    np.testing.assert_allclose(received, np.clip(speech / 2, -0.1, 0.1), atol=1e-5)
    assert received.dtype == np.float32


def test_transmit_never_leaves_the_range_of_samples():
    loud = Channel("white", snr_db=10.0, gain_db=20.0, clipping_level=1.0, sampling_rate=16_000, bit_rate=16_000)
    assert np.abs(transmit(tone(amplitude=0.9), 16_000, loud, np.random.default_rng(0))).max() == 1.0


def test_drawn_channels_cover_the_settings():
    rng = np.random.default_rng(0)
    channels = [draw_channel(rng) for _ in range(1000)]
    assert {channel.noise_kind for channel in channels} == set(NOISE_KINDS)
    assert {channel.sampling_rate for channel in channels} == set(SAMPLING_RATES)
    assert {channel.bit_rate for channel in channels} == set(BIT_RATES)
    assert np.mean([channel.clipping_level < 1 for channel in channels]) == pytest.approx(0.15, abs=0.03)
    snrs = [channel.snr_db for channel in channels]
    assert min(snrs) >= SNR_RANGE[0] and max(snrs) <= SNR_RANGE[1] and np.ptp(snrs) > 24


def test_the_generator_decides():
    channel = Channel("babble", snr_db=10.0, gain_db=0.0, clipping_level=1.0, sampling_rate=16_000, bit_rate=16_000)
    first, same, other = (transmit(tone(), 16_000, channel, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other)


@pytest.mark.parametrize("sampling_rate", sorted(set(SAMPLING_RATES)))
@pytest.mark.parametrize("bit_rate", BIT_RATES)
def test_opus_gives_the_signal_back(sampling_rate, bit_rate):
    sent = sum(tone(frequency, 1.3, sampling_rate, 0.1) for frequency in (310.0, 700.0, 1900.0))
    received = load_audio(encode_opus(sent, sampling_rate, bit_rate), sampling_rate)
    assert abs(len(received) - len(sent)) / sampling_rate < 0.005
    start, end = sampling_rate // 10, sampling_rate  # the codec needs a moment to start

    def similarity(seconds):
        shift = round(seconds * sampling_rate)
        return np.corrcoef(sent[start:end], received[start + shift : end + shift])[0, 1]

    # At the lowest rates the speech coder moves the phases a little; the encoder's delay of 6.5 ms is taken off.
    assert max(similarity(milliseconds / 1000) for milliseconds in (-0.125, 0, 0.125)) > 0.8
    assert similarity(0.0065) < 0.5


def test_opus_keeps_to_the_bit_rate():
    noise = 0.1 * make_noise("pink", 10 * 16_000, 16_000, np.random.default_rng(0))
    sizes = [len(encode_opus(noise, 16_000, bit_rate)) for bit_rate in BIT_RATES]
    assert sizes == sorted(sizes)
    for size, bit_rate in zip(sizes, BIT_RATES, strict=True):
        assert 8 * size / 10 == pytest.approx(bit_rate, rel=0.35)


def test_equal_samples_give_equal_bytes():
    assert encode_opus(tone(), 16_000, 16_000) == encode_opus(tone(), 16_000, 16_000)
    assert encode_opus(tone(), 16_000, 16_000)[:4] == b"OggS"


@pytest.mark.parametrize(
    ("samples", "sampling_rate", "bit_rate", "message"),
    [
        (tone(), 22_050, 16_000, "22050 Hz: resample"),
        (tone(), 16_000, 1_000, "`bit_rate` is 1000"),
        (np.zeros(0, np.float32), 16_000, 16_000, "`samples` is empty"),
    ],
)
def test_what_opus_cannot_code_is_refused(samples, sampling_rate, bit_rate, message):
    with pytest.raises(ValueError, match=message):
        encode_opus(samples, sampling_rate, bit_rate)


def test_send_is_the_channel_and_the_codec_in_turn():
    speech = np.sin(np.arange(22_050, dtype=np.float32) / 20)
    channel = draw_channel(np.random.default_rng(1))
    content, duration = send(speech, 22_050, channel, np.random.default_rng(2))
    heard = resample(transmit(speech, 22_050, channel, np.random.default_rng(2)), 22_050, channel.sampling_rate)
    assert content == encode_opus(heard, channel.sampling_rate, channel.bit_rate)
    assert duration == len(heard) / channel.sampling_rate == pytest.approx(1, abs=0.001)


def test_music_is_made_of_tones_breath_swells_and_clicks_are_short():
    def make(kind):
        return make_noise(kind, 160_000, 16_000, np.random.default_rng(3))

    spectrum = np.sort(np.abs(np.fft.rfft(make("music"))) ** 2)[::-1]
    assert spectrum[: len(spectrum) // 100].sum() > 0.8 * spectrum.sum()
    loudness = np.sqrt(np.mean(make("breath").reshape(-1, 1600) ** 2, axis=1))  # 100 ms
    assert loudness.max() > 10 * loudness.min()
    clicks = np.abs(make("clicks"))
    assert np.median(clicks) < 0.01 * clicks.max()


def test_an_echo_has_the_asked_energy_and_fades_by_60_db_in_the_reverb_time():
    click = np.zeros(16_000, np.float32)
    click[0] = 1
    heard = add_room(click, 16_000, 0.5, -6.0, np.random.default_rng(0))
    assert heard[0] == pytest.approx(1, abs=1e-4) and heard.shape == click.shape
    assert decibels(np.sum(heard[1:] ** 2)) == pytest.approx(-6, abs=0.01)
    early, late = (np.mean(heard[start : start + 800] ** 2) for start in (800, 4_800))  # 0.25 s apart: half of 60 dB
    assert decibels(early / late) == pytest.approx(30, abs=1.5)
    assert np.abs(heard[8_001:]).max() < 1e-4


def test_a_microphone_passes_its_band_alone():
    tones = {frequency: tone(frequency) for frequency in (50.0, 1000.0, 6000.0)}
    levels = {
        frequency: decibels(np.mean(limit_band(samples, 16_000, 200.0, 3000.0) ** 2) / np.mean(samples**2))
        for frequency, samples in tones.items()
    }
    assert levels[1000.0] == pytest.approx(0, abs=0.1)
    assert levels[50.0] == pytest.approx(-48, abs=1) and levels[6000.0] == pytest.approx(
        -24, abs=1
    )  # two octaves, one
    np.testing.assert_array_equal(limit_band(tones[50.0], 16_000, 0.0, float("inf")), tones[50.0])


def test_a_telephone_keeps_the_lower_band_with_the_error_of_eight_bits():
    times = np.arange(16_000) / 16_000
    low, high = (0.5 * np.sin(2 * np.pi * frequency * times) for frequency in (1_000, 6_000))
    heard = telephone((low + 0.5 * high).astype(np.float32), 16_000)
    inner = slice(400, -400)  # without the edges of the resampling filters
    noise = heard[inner] - low[inner]
    assert 30 < 10 * np.log10(np.mean(low[inner] ** 2) / np.mean(noise**2)) < 45  # G.711: about 38 dB
    assert len(heard) == 16_000 and not telephone(np.zeros(801, np.float32), 16_000).any()


def test_talkers_are_equally_loud_and_lie_at_the_asked_snr():
    quiet, loud = tone(300.0, amplitude=0.01), tone(1000.0, amplitude=0.5)
    babble = mix_talkers([quiet, loud], 40_000, np.random.default_rng(0))
    assert babble.shape == (40_000,) and np.mean(babble**2) == pytest.approx(1, rel=1e-3)
    assert band_power(babble, 16_000, 200, 600) == pytest.approx(0.5, abs=0.05)
    speech = tone(2000.0)
    added = add_noise(speech, babble[: len(speech)], 8.0) - speech
    assert decibels(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(8.0, abs=0.5)
    with pytest.raises(ValueError, match="`talkers` is empty"):
        mix_talkers([], 100, np.random.default_rng(0))


def test_a_scene_without_room_and_band_is_its_channel():
    channel = Channel("pink", snr_db=10.0, gain_db=3.0, clipping_level=0.5, sampling_rate=16_000, bit_rate=16_000)
    plain = Scene(reverb_time=0.0, echo_db=-6.0, low_cut=0.0, high_cut=float("inf"), channel=channel)
    heard = record(tone(), 16_000, plain, np.random.default_rng(0))
    np.testing.assert_array_equal(heard, transmit(tone(), 16_000, channel, np.random.default_rng(0)))


def test_a_scene_with_talkers_is_heard_over_them():
    channel = Channel(TALKERS, snr_db=20.0, gain_db=0.0, clipping_level=1.0, sampling_rate=16_000, bit_rate=16_000)
    scene = Scene(reverb_time=0.2, echo_db=-10.0, low_cut=100.0, high_cut=3000.0, channel=channel)
    heard = record(tone(440.0), 16_000, scene, np.random.default_rng(0), [tone(1500.0)])
    assert decibels(band_power(heard, 16_000, 400, 480) / band_power(heard, 16_000, 1400, 1600)) == pytest.approx(
        20, abs=1
    )


def test_drawn_scenes_cover_the_settings():
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng) for _ in range(1000)]
    assert {scene.channel.noise_kind for scene in scenes} == {*BACKGROUND_KINDS, TALKERS}
    assert np.mean([scene.reverb_time > 0 for scene in scenes]) == pytest.approx(0.4, abs=0.05)
    assert np.mean([np.isfinite(scene.high_cut) for scene in scenes]) == pytest.approx(0.4, abs=0.05)
    snrs = [scene.channel.snr_db for scene in scenes]
    assert min(snrs) >= SCENE_SNR_RANGE[0] and max(snrs) <= SCENE_SNR_RANGE[1] and np.ptp(snrs) > 35
