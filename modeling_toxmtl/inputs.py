"""What the encoders hear: features of each clip by itself, and batches of clips and targets."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from .audio import SAMPLING_RATE, as_waveform
from .heads import IGNORE_INDEX


def speech_feature_extractor() -> Wav2Vec2FeatureExtractor:
    """16 kHz waveforms, each normalised to zero mean and unit variance over its own length."""
    return Wav2Vec2FeatureExtractor(sampling_rate=SAMPLING_RATE, do_normalize=True, return_attention_mask=True)


def mel_feature_extractor(num_mel_bins: int = 80) -> WhisperFeatureExtractor:
    """Whisper's log-mel features of 16 kHz waveforms, scaled by each clip's own maximum."""
    return WhisperFeatureExtractor(feature_size=num_mel_bins, sampling_rate=SAMPLING_RATE, return_attention_mask=True)


def extract_features(
    extractor: Wav2Vec2FeatureExtractor | WhisperFeatureExtractor,
    audio: np.ndarray | torch.Tensor | Sequence,
    sampling_rate: int | None,
) -> list[np.ndarray]:
    """`(samples,)` or `(mel bins, mel frames)` of each clip, whatever stands beside it, and never padded to 30 s.

    Args:
        extractor: of the encoder.
        audio: one waveform of shape `(samples,)` or a list of them.
        sampling_rate: of the waveforms, in Hz.

    Raises:
        ValueError: for another rate than the extractor's, no clips, or a clip that is no waveform ([`as_waveform`]) or
            shorter than a frame of it.
    """
    if not len(audio):
        raise ValueError("There is no clip, or an empty one.")
    clips = [audio] if isinstance(audio, torch.Tensor | np.ndarray) and audio.ndim == 1 else audio
    clips = [clips] if np.ndim(clips[0]) == 0 else clips
    options = {"sampling_rate": sampling_rate, "padding": False, "truncation": False, "return_tensors": "np"}
    name = extractor.model_input_names[0]
    shortest = extractor.n_fft // 2 + 1 if name == "input_features" else 1  # samples, to mirror at the edges
    waveforms = [as_waveform(clip) for clip in clips]
    if short := [number for number, samples in enumerate(waveforms) if len(samples) < shortest]:
        raise ValueError(f"Clip {short[0]} has {len(waveforms[short[0]])} samples: the model needs {shortest}.")
    return [extractor(samples, **options)[name][0] for samples in waveforms]


def pad_features(
    extractor: Wav2Vec2FeatureExtractor | WhisperFeatureExtractor,
    clips: Sequence[np.ndarray],
    padding: bool | str = True,
    max_length: int | None = None,
    pad_to_multiple_of: int | None = None,
) -> dict[str, np.ndarray]:
    """Clips of [`extract_features`] as a batch with its `attention_mask`; the other arguments are those of the
    extractor's own `pad`, in samples or mel frames."""
    name = extractor.model_input_names[0]
    is_mel = name == "input_features"
    batch = extractor.pad(
        {name: [np.asarray(clip).T if is_mel else clip for clip in clips]},  # time comes first
        padding=padding,
        max_length=max_length,
        pad_to_multiple_of=pad_to_multiple_of,
        return_attention_mask=True,  # the model needs it, whatever the checkpoint's own default is
        return_tensors="np",
    )
    return {**batch, name: batch[name].swapaxes(1, 2)} if is_mel else dict(batch)


def pad_targets(targets: Sequence[Sequence[int]]) -> np.ndarray:
    """`(B, S)` character ids, padded with -100."""
    padded = np.full((len(targets), max(map(len, targets))), IGNORE_INDEX)
    for row, target in enumerate(targets):
        padded[row, : len(target)] = target
    return padded
