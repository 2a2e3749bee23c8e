"""Models small enough to build, run and train in milliseconds."""

import torch
from transformers import WavLMConfig, WhisperConfig

from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig, WhisperToxicityMTLConfig
from modeling_toxmtl.modeling_toxmtl import WavLMForToxicityMTL, WhisperForToxicityMTL


SYSTEMS = {
    "classification": {"tasks": ["classification"]},
    "keyword": {"tasks": ["keyword"]},
    "mtl": {},
    "info_sharing": {"use_info_sharing": True},
    "task_adapter": {"use_task_adapter": True},
}
# The two kinds of WavLM: Base (group norm, post-norm blocks) and Large (layer norm, pre-norm blocks).
NORMS = {
    "group": {"feat_extract_norm": "group", "do_stable_layer_norm": False},
    "layer": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
}
# Encoders of both families, as fields of `tiny_model`
ENCODERS = {**NORMS, "plain": {"use_position_bias": False}, "whisper": {"family": "whisper"}}
TINY_WAVLM = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),  # a frame is 20 samples and sees 30
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "num_buckets": 16,
    "max_bucket_distance": 12,
    "classifier_proj_size": 8,
    "vocab_size": 10,
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}


TINY_WHISPER = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "num_mel_bins": 8,
    "max_source_positions": 100,  # 2 s
    "classifier_proj_size": 8,
    "vocab_size": 10,
    "pad_token_id": 0,
}
# Of the clips of `training_batch`
LABELS = torch.tensor(
    [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0], [1, 1, 1, 1, 0, 0]], dtype=torch.float
)
# the blank alone (0): nothing is said in the third clip
KEYWORD_LABELS = torch.tensor([[3, 4, 5, 5], [6, -100, -100, -100], [0, -100, -100, -100], [7, 8, -100, -100]])


def tiny_wavlm_config(**overrides) -> WavLMConfig:
    return WavLMConfig(**{**TINY_WAVLM, **overrides})


def tiny_config(family: str = "wavlm", **overrides) -> WavLMToxicityMTLConfig | WhisperToxicityMTLConfig:
    """Two layers of width 16 without dropout, LayerDrop and SpecAugment; training is deterministic."""
    tiny = {"task_adapter_bottleneck_size": 4, "info_sharing_size": 12, "final_dropout": 0.0}
    if family == "whisper":
        return WhisperToxicityMTLConfig(**{**TINY_WHISPER, **tiny, **overrides})
    return WavLMToxicityMTLConfig(**{**TINY_WAVLM, **tiny, **overrides})


def tiny_whisper_config(**overrides) -> WhisperConfig:
    """With a decoder as small, and tokens of its own."""
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "vocab_size": 50}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    return WhisperConfig(**{**TINY_WHISPER, **decoder, **special, **overrides})


def randomize_(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Fills every parameter with noise, so that no zero or one of the initialisation hides a fault."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            is_scale = "norm.weight" in name or "norms." in name or "weight.original0" in name
            parameter.copy_(noise * (0.3 if parameter.ndim > 1 else 0.1) + (1.0 if is_scale else 0.0))
    return model


def fresh_model(**overrides) -> WavLMForToxicityMTL | WhisperForToxicityMTL:
    """A tiny model as it starts to learn."""
    config = tiny_config(**overrides)
    return (WhisperForToxicityMTL if config.model_type == "whisper_toxmtl" else WavLMForToxicityMTL)(config)


def tiny_model(seed: int = 0, **overrides) -> WavLMForToxicityMTL | WhisperForToxicityMTL:
    """A tiny model with random weights everywhere, in evaluation mode."""
    return randomize_(fresh_model(**overrides), seed).eval()


def mel_of(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    """Random spectrograms of 8 mel bins, one of each length in mel frames."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, length, generator=generator) for length in lengths]


def pad_mel(clips: list[torch.Tensor], extra: int = 0, value: float = 0.0) -> dict[str, torch.Tensor]:
    """Batch of spectrograms, padded on the right with `value`."""
    sizes = torch.tensor([clip.shape[1] for clip in clips])
    size = int(sizes.max()) + extra
    padded = [torch.nn.functional.pad(clip, (0, size - clip.shape[1]), value=value) for clip in clips]
    mask = torch.arange(size)[None] < sizes[:, None]
    return {"input_features": torch.stack(padded), "attention_mask": mask.long()}


def clips_of(*lengths: int, seed: int = 0) -> list[torch.Tensor]:
    """Clips of random samples, one of each length."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, generator=generator) for length in lengths]


def pad(clips: list[torch.Tensor], extra: int = 0, value: float = 0.0) -> dict[str, torch.Tensor]:
    """Batch of clips, padded on the right with `value`."""
    size = max(map(len, clips)) + extra
    input_values = torch.full((len(clips), size), value)
    attention_mask = torch.zeros(len(clips), size, dtype=torch.long)
    for row, clip in enumerate(clips):
        input_values[row, : len(clip)] = clip
        attention_mask[row, : len(clip)] = 1
    return {"input_values": input_values, "attention_mask": attention_mask}


def inputs_of(model: torch.nn.Module, clips: list[torch.Tensor], extra: int = 0) -> dict[str, torch.Tensor]:
    """Batch of clips for a tiny model, padded by at least `extra` samples: for Whisper, spectrograms with a mel frame
    for each 10 samples, which makes its frames as long as the tiny WavLM's."""
    if model.main_input_name == "input_values":
        return pad(clips, extra)
    mel = [clip[: len(clip) // 10 * 10].reshape(-1, 10)[:, :8].T for clip in clips]
    return pad_mel(mel, extra // 10)


def training_batch(*lengths: int, model: torch.nn.Module | None = None) -> dict[str, torch.Tensor]:
    """Up to four clips of these lengths with labels of both tasks; for a tiny WavLM, if no model is given."""
    rows, clips = len(lengths), clips_of(*lengths)
    return {
        **(pad(clips) if model is None else inputs_of(model, clips)),
        "labels": LABELS[:rows].clone(),
        "keyword_labels": KEYWORD_LABELS[:rows].clone(),
    }


def alone(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """One clip of a batch, without its padding."""
    length = batch["attention_mask"][row].sum()
    (name,) = batch.keys() - {"attention_mask", "labels", "keyword_labels"}
    return {
        name: batch[name][row : row + 1, ..., :length],
        "labels": batch["labels"][row : row + 1],
        "keyword_labels": batch["keyword_labels"][row : row + 1],
    }


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Of each parameter that has one."""
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def gradient_size(module: torch.nn.Module) -> float:
    """Largest gradient of the module's parameters; no gradient counts as 0."""
    return max(0.0 if p.grad is None else p.grad.abs().max().item() for p in module.parameters())
