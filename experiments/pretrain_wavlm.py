"""Pre-trains the tiny WavLM backbone of the demo: character CTC on synthesised general English.

The paper starts from WavLM Base+ fine-tuned on 100 hours of LibriSpeech; the tiny backbone plays its part where
minutes on two cores have to do. Sentences are words drawn independently from the commonest of English (wordfreq) and
from the vocabulary of the demo's train split, spoken by the train voices of espeak-ng, most of them through the
demo's voice-chat channel. They are made up on the fly: no sentence is heard twice, and none of the demo's is heard at
all. The held-out set is spoken by the validation voices; the test voices are never heard here. The result is a plain
`WavLMForCTC` folder, as published ASR checkpoints are.

    python -m experiments.pretrain_wavlm --output_dir runs/tiny-wavlm
"""

import os
import sys
from collections import Counter
from dataclasses import dataclass, field

import jiwer
import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info
from transformers import HfArgumentParser, Trainer, TrainingArguments, WavLMConfig, WavLMForCTC
from transformers.trainer_utils import get_last_checkpoint
from wordfreq import get_frequency_dict

from datasets_scripts.demo_grammar import generate_corpus
from datasets_scripts.effects import draw_channel, send
from datasets_scripts.espeak import VOICES, synthesize
from datasets_scripts.grammar_en import ENGLISH
from datasets_scripts.make_demo_corpus import PLAYBACK_RATES
from modeling_toxmtl.alphabet import character_tokenizer
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio, resample
from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig
from modeling_toxmtl.heads import IGNORE_INDEX
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.modeling_toxmtl import WavLMForToxicityMTL
from modeling_toxmtl.processing_toxmtl import speech_feature_extractor
from modeling_toxmtl.text import normalize_text


NEIGHBOURS = 16
CHANNEL_SHARE = 0.7  # of the sentences: heard through the noise and the codec of voice chat, the rest as spoken


@dataclass
class PretrainingArguments:
    """What is spoken, and what hears it."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "`WavLMForCTC` folder to start from, of this script; default: random weights."}
    )
    freeze_feature_encoder: bool = field(
        default=False, metadata={"help": "Keep the convolutions as they are: about 1.6 times the speed."}
    )
    vocabulary_words: int = field(
        default=6000, metadata={"help": "How many of the commonest English words to draw from."}
    )
    frequency_exponent: float = field(
        default=0.5, metadata={"help": "Words are drawn by frequency to this power (1: as in text)."}
    )
    voice_chat_share: float = field(
        default=0.5, metadata={"help": "Share of the words drawn from the vocabulary of the demo's train sentences."}
    )
    max_words: int = field(default=8, metadata={"help": "Longest sentence, in words."})
    held_out_clips: int = field(
        default=200, metadata={"help": "Clips of the validation voices to measure the character error rate on."}
    )


@dataclass
class PretrainingTrainingArguments(TrainingArguments):
    """`TrainingArguments` with these defaults changed: a constant learning rate that decays over the last steps, so
    that a run can be prolonged."""

    output_dir: str = "runs/tiny-wavlm"
    max_steps: int = 6000
    per_device_train_batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    adam_beta2: float = 0.98
    warmup_steps: float = 300
    lr_scheduler_type: str = "warmup_stable_decay"
    lr_scheduler_kwargs: dict | str | None = field(default_factory=lambda: {"num_decay_steps": 1500})
    dataloader_num_workers: int = 1
    eval_strategy: str = "steps"
    eval_steps: float = 500
    save_steps: float = 500
    save_total_limit: int | None = 2
    logging_steps: float = 50
    remove_unused_columns: bool | None = False
    label_names: list[str] | None = field(default_factory=lambda: ["keyword_labels"])
    report_to: str = "none"


def tiny_config() -> WavLMToxicityMTLConfig:
    """About 3.7 M parameters; 50 frames a second, as WavLM. The first convolution hops 20 samples: cheap, and
    eight-fold overcomplete still."""
    return WavLMToxicityMTLConfig(
        tasks=["keyword"],
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=768,
        conv_dim=(160, 224, 256),
        conv_kernel=(40, 8, 8),
        conv_stride=(20, 4, 4),
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=64,
        hidden_dropout=0.0,
        activation_dropout=0.0,
        attention_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.02,
        mask_time_min_masks=0,
    )


def vocabulary(args: PretrainingArguments) -> dict[str, float]:
    """Words and their probabilities: general English, and the words (not the sentences) of the demo's train split."""
    frequencies = get_frequency_dict("en", wordlist="small")
    words = [word for word in frequencies if word.isascii() and word.replace("'", "").isalpha()]
    common = sorted(words, key=frequencies.get, reverse=True)[: args.vocabulary_words]
    clips = generate_corpus({"train": 3000, "validation": 0, "test": 0}, 0, KeywordList.default(), ENGLISH)["train"]
    voice_chat = Counter(word for clip in clips for word in normalize_text(clip.transcript))
    probabilities = Counter()
    for counts, share in (
        ({word: frequencies[word] for word in common}, 1 - args.voice_chat_share),
        (voice_chat, args.voice_chat_share),
    ):
        total = sum(count**args.frequency_exponent for count in counts.values())
        for word, count in counts.items():
            probabilities[word] += share * count**args.frequency_exponent / total
    return dict(probabilities)


class EnglishSpeech(IterableDataset):
    """Endless synthesised sentences of one split's voices; the seed and the position fix each of them."""

    def __init__(self, args: PretrainingArguments, split: str, seed: int, clips: int | None = None):
        self.args, self.voices, self.seed, self.clips = args, VOICES["en"][split], seed, clips
        probabilities = vocabulary(args)
        self.words, self.probabilities = list(probabilities), np.array(list(probabilities.values()))
        self.tokenizer, self.feature_extractor = character_tokenizer(), speech_feature_extractor()

    def __iter__(self):
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        position = first
        while self.clips is None or position < self.clips:
            # neighbours, which share a batch, have the same number of words: little padding
            num_words = np.random.default_rng([self.seed, position // NEIGHBOURS]).integers(2, self.args.max_words + 1)
            yield self._clip(num_words, np.random.default_rng([self.seed, 1, position]))
            position += step

    def _clip(self, num_words, rng):
        text = " ".join(rng.choice(self.words, size=num_words, p=self.probabilities))
        voice = self.voices[rng.integers(len(self.voices))]
        prosody = {"rate": rng.integers(120, 230), "pitch": rng.integers(20, 80), "pitch_range": rng.integers(20, 80)}
        samples, sampling_rate = synthesize(text, voice, rng.integers(2**31), **prosody)
        # a vocal tract of another length: there are few voices, and the held-out ones are unlike them
        sampling_rate = round(sampling_rate * rng.uniform(*PLAYBACK_RATES["train"]))
        if rng.random() < CHANNEL_SHARE:
            content, _ = send(samples, sampling_rate, draw_channel(rng), rng)
            samples = load_audio(content, SAMPLING_RATE)
        else:
            samples = resample(samples, sampling_rate, SAMPLING_RATE)
        return {
            "input_values": self.feature_extractor(samples, sampling_rate=SAMPLING_RATE).input_values[0],
            "keyword_labels": self.tokenizer(text).input_ids,
        }


def collate(clips: list[dict]) -> dict[str, torch.Tensor]:
    """Pads waveforms with 0 and targets with -100."""
    waveforms = [torch.as_tensor(clip["input_values"]) for clip in clips]
    targets = [torch.tensor(clip["keyword_labels"]) for clip in clips]
    return {
        "input_values": torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True),
        "attention_mask": torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(w), dtype=torch.long) for w in waveforms], batch_first=True
        ),
        "keyword_labels": torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORE_INDEX),
    }


def export_ctc_model(model: WavLMForToxicityMTL, output_dir: str) -> None:
    """Writes the model as a half-precision `WavLMForCTC` folder with its tokenizer and feature extractor."""
    known = set(WavLMConfig().to_dict())
    fields = {name: value for name, value in model.config.to_dict().items() if name in known}
    for name in ("model_type", "architectures", "id2label", "label2id", "problem_type", "dtype"):
        fields.pop(name, None)
    ctc_model = WavLMForCTC(WavLMConfig(**fields))
    ctc_model.load_state_dict(model.state_dict())
    ctc_model.half().save_pretrained(output_dir)
    character_tokenizer().save_pretrained(output_dir)
    speech_feature_extractor().save_pretrained(output_dir)


def main(args: PretrainingArguments, training_args: PretrainingTrainingArguments) -> dict[str, float]:
    """Trains, measures the character error rate on unheard voices, and exports; goes on from the last checkpoint in
    `output_dir`, if there is one."""
    torch.manual_seed(training_args.seed)
    tokenizer = character_tokenizer()
    model = WavLMForToxicityMTL(tiny_config())
    if args.model_name_or_path is not None:
        model = WavLMForToxicityMTL.from_pretrained(args.model_name_or_path, config=model.config, dtype="float32")
    if args.freeze_feature_encoder:
        model.freeze_feature_encoder()

    def character_error_rate(prediction) -> dict[str, float]:
        hypotheses = tokenizer.batch_decode(
            np.where(prediction.predictions < 0, tokenizer.pad_token_id, prediction.predictions)
        )
        labels = np.where(prediction.label_ids < 0, tokenizer.pad_token_id, prediction.label_ids)
        return {"cer": jiwer.cer(tokenizer.batch_decode(labels, group_tokens=False), hypotheses)}

    def greedy(logits, _labels):
        return logits.argmax(-1)

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=EnglishSpeech(args, "train", training_args.seed),
        eval_dataset=list(EnglishSpeech(args, "validation", training_args.seed + 1, clips=args.held_out_clips)),
        data_collator=collate,
        compute_metrics=character_error_rate,
        preprocess_logits_for_metrics=greedy,
    )
    checkpoint = get_last_checkpoint(training_args.output_dir) if os.path.isdir(training_args.output_dir) else None
    trainer.train(resume_from_checkpoint=checkpoint)
    metrics = trainer.evaluate()
    trainer.save_metrics("eval", metrics)
    export_ctc_model(trainer.model, training_args.output_dir)
    return metrics


if __name__ == "__main__":
    parser = HfArgumentParser((PretrainingArguments, PretrainingTrainingArguments))
    print(main(*parser.parse_args_into_dataclasses()), file=sys.stderr)
