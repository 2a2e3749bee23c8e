r"""Makes a WavLM of a Whisper model: its blocks and heads, and convolutions that imitate what these were trained on.

    python -m experiments.wavlm_from_whisper --model runs/voices-4 --dataset voice_data --output_dir runs/wavlm-start
    python run_mtl.py experiments/voices_mtl.json --model_name_or_path runs/wavlm-start --freeze_layers 0 \
        --output_dir runs/wavlm-voices --config_overrides '{"apply_spec_augment": true, "mask_time_prob": 0.05}'

A WavLM hears waveforms of any length and knows no absolute positions; a Whisper hears log-mel features of up to 30 s,
with a position added to each. So the blocks, the heads and the last norm are copied, and the new parts, the
convolutions, the projection and the positional convolution, learn by regression to give what goes into Whisper's first
block, with the mean position in place of each one's own. What the blocks miss without positions, fine-tuning must
mend.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from tqdm import trange
from transformers import HfArgumentParser, get_cosine_schedule_with_warmup

from modeling_toxmtl import ToxicityMTLProcessor, WavLMForToxicityMTL, WhisperForToxicityMTL
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig, WhisperToxicityMTLConfig
from modeling_toxmtl.inputs import speech_feature_extractor
from modeling_toxmtl.training.dataset import read_encoded
from modeling_toxmtl.training.folders import audio_root, load_clips
from modeling_toxmtl.training.trainer import EpochSampler
from modeling_toxmtl.wavlm import WavLMBackbone
from modeling_toxmtl.whisper import WhisperBackbone


CONVOLUTIONS = {
    "conv_dim": (160, 224, 256),
    "conv_kernel": (40, 8, 8),
    "conv_stride": (20, 4, 4),
    "conv_bias": True,  # without, the norm behind each convolution would forget how loud a frame is
}  # 50 frames a second
SHARED = ("tasks", "id2label", "label2id", "problem_type", "vocab_size", "pad_token_id", "classifier_proj_size",
          "classification_loss_weight", "final_dropout")  # fmt: skip
OF_A_BLOCK = {
    "self_attn_layer_norm": "layer_norm",
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.out_proj": "attention.out_proj",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
    "final_layer_norm": "final_layer_norm",
}
POSITIONS = 500  # whose mean is taken: 10 s


@dataclass
class ImitationArguments:
    """What is imitated, on which sound, for how long."""

    output_dir: str = field(metadata={"help": "Folder to write."})
    model: str = field(
        default="model_cards/whisper-tiny-en-toxmtl", metadata={"help": "A model of this package with a Whisper."}
    )
    dataset: str = field(default="voice_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    split: str = field(default="train", metadata={"help": "Split to listen to; labels and transcripts are not used."})
    steps: int = field(default=1500, metadata={"help": "Steps of the regression."})
    batch_size: int = field(default=16, metadata={"help": "Clips of a step."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    seed: int = field(default=0, metadata={"help": "The same seed gives the same order of clips."})


def student_config(config: WhisperToxicityMTLConfig) -> WavLMToxicityMTLConfig:
    """A WavLM whose blocks are those of a Whisper.

    Raises:
        ValueError: if it has task adapters or information sharing, which would have to be copied too.
    """
    if config.use_task_adapter or config.use_info_sharing:
        raise ValueError("--model has task adapters or information sharing: give a plain multi-task model.")
    return WavLMToxicityMTLConfig(
        **{name: getattr(config, name) for name in SHARED},
        **CONVOLUTIONS,
        hidden_size=config.d_model,
        num_hidden_layers=config.encoder_layers,
        num_attention_heads=config.encoder_attention_heads,
        intermediate_size=config.encoder_ffn_dim,
        layer_norm_eps=config.layer_norm_eps,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        use_position_bias=False,
        hidden_dropout=0.0,
        activation_dropout=0.0,
        attention_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.05,
    )


@torch.no_grad()
def copy_upper_parts(teacher: WhisperForToxicityMTL, student: WavLMForToxicityMTL) -> None:
    """Copies blocks, last norm and heads; keys of Whisper have no bias, so those of the WavLM start at 0."""
    source, target = teacher.state_dict(), student.state_dict()
    for name in target:
        place, _, parameter = name.rpartition(".")
        block = place.removeprefix("wavlm.encoder.layers.")
        if block != place:
            number, _, part = block.partition(".")
            (theirs,) = (key for key, value in OF_A_BLOCK.items() if value == part)
            value = source.get(f"model.encoder.layers.{number}.{theirs}.{parameter}")
            target[name].copy_(torch.zeros_like(target[name]) if value is None else value)
        elif place == "wavlm.encoder.layer_norm":
            target[name].copy_(source[f"model.encoder.layer_norm.{parameter}"])
        elif not name.startswith("wavlm."):
            target[name].copy_(source[name])


def batches(waveforms: list[np.ndarray], size: int, seed: int) -> Iterator[list[np.ndarray]]:
    """Clips without end, each pass in another order, neighbours of about the same length."""
    sampler = EpochSampler(size, [len(samples) for samples in waveforms], seed)
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        order = list(sampler)
        for start in range(0, len(order), size):
            yield [waveforms[index] for index in order[start : start + size]]


def imitation_loss(
    whisper: WhisperBackbone, wavlm: WavLMBackbone, mel: Mapping[str, torch.Tensor], waves: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Squared error of what two encoders without blocks give, by the variance of each channel of what is imitated:
    1 is that of the channels' means. Over the frames that both have."""
    with torch.no_grad():
        heard = whisper(**mel)
    imitated = wavlm(**waves)
    length = min(heard.frame_mask.shape[1], imitated.frame_mask.shape[1])
    mask = heard.frame_mask[:, :length] & imitated.frame_mask[:, :length]
    positions = whisper.encoder.embed_positions.weight
    target = (heard.last_hidden_state - positions[: heard.frame_mask.shape[1]])[:, :length][mask]
    error = imitated.last_hidden_state[:, :length][mask] - target - positions[:POSITIONS].mean(0)
    return error.square().mean() / (target - target.mean(0)).square().mean()


def main(args: ImitationArguments) -> None:
    """Trains what comes before the blocks, and writes the model with the processor of the one that it imitates."""
    torch.manual_seed(args.seed)
    teacher = WhisperForToxicityMTL.from_pretrained(args.model, dtype=torch.float32).eval()
    student = WavLMForToxicityMTL(student_config(teacher.config)).eval()  # nothing is masked: all frames are imitated
    copy_upper_parts(teacher, student)
    processor = ToxicityMTLProcessor.from_pretrained(args.model)
    listener = ToxicityMTLProcessor.from_pretrained(args.model)
    listener.feature_extractor = speech_feature_extractor()

    blocks = student.wavlm.encoder.layers
    teacher.model.encoder.layers = student.wavlm.encoder.layers = torch.nn.ModuleList()  # what they make is left out
    new = list(student.wavlm.parameters())
    optimizer = torch.optim.AdamW(new, lr=args.learning_rate, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, args.steps // 10, args.steps)
    rows, root = load_clips(args.dataset, None, {args.split})[args.split], audio_root(args.dataset)
    waveforms = [load_audio(read_encoded(row["audio"], root), SAMPLING_RATE) for row in rows]
    stream = batches(waveforms, args.batch_size, args.seed)
    for _ in (progress := trange(args.steps, desc="Imitating", unit="step")):
        clips = next(stream)
        inputs = [each(clips, sampling_rate=SAMPLING_RATE, return_tensors="pt") for each in (processor, listener)]
        loss = imitation_loss(teacher.model, student.wavlm, *inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(new, 1.0)
        optimizer.step(), schedule.step(), optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}")
    student.wavlm.encoder.layers = blocks
    student.save_pretrained(args.output_dir)
    listener.save_pretrained(args.output_dir)


if __name__ == "__main__":
    main(*HfArgumentParser(ImitationArguments, description=__doc__).parse_args_into_dataclasses())
