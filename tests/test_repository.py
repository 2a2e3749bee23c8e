"""What the repository promises beyond its modules: the README's commands and numbers, and files that can travel."""

import ast
import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import torch
import typer
from helpers import RATE, save_tiny_model, tiny_classifier, tone, write_corpus
from safetensors.torch import load_file
from transformers import HfArgumentParser, WavLMConfig, WhisperConfig, set_seed

from benchmarks import (
    baselines,
    decoding,
    exported,
    guards,
    inference,
    live,
    new_keywords,
    run_time_keywords,
    scores,
    serving,
    session_leaks,
    speech_gate,
)
from datasets_scripts import (
    build_language_model,
    convert_whisper,
    make_demo_corpus,
    make_spoken_digits,
    make_study_corpus,
    make_text_table,
    make_voice_corpus,
)
from datasets_scripts.effects import encode_opus
from datasets_scripts.espeak import VOICES, synthesize_words
from modeling_toxmtl import (
    LABELS,
    KeywordList,
    ToxicityDetectionPipeline,
    ToxicityMTLProcessor,
    WavLMForToxicityMTL,
    WavLMToxicityMTLConfig,
    WhisperToxicityMTLConfig,
    cli,
)
from modeling_toxmtl.data.label import KeywordArguments, LabelArguments
from modeling_toxmtl.hub import code_files
from modeling_toxmtl.io.tables import read_labels
from modeling_toxmtl.training.card import write_model_card
from modeling_toxmtl.training.evaluation import markdown_table
from run_mtl import load_model, parse_arguments
from run_mtl import main as run_mtl


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = sorted((ROOT / "experiments" / "results").glob("*.json"))
BENCHMARKS = ROOT / "benchmarks" / "results"
CARDS = sorted(path.parent for path in (ROOT / "model_cards").glob("*/config.json"))
DOCUMENTS = ["README.md", "docs/recipes.md"]
PAGES = [ROOT / "README.md", ROOT / "datasets_scripts" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# module -> dataclasses of its command's arguments
PARSED_BY = {
    "benchmarks.baselines": [baselines.BaselineArguments, LabelArguments, KeywordArguments],
    "benchmarks.decoding": decoding.DecodingArguments,
    "benchmarks.exported": exported.ExportedArguments,
    "benchmarks.guards": guards.GuardArguments,
    "benchmarks.inference": inference.InferenceArguments,
    "benchmarks.live": live.LiveArguments,
    "benchmarks.new_keywords": new_keywords.NewKeywordsArguments,
    "benchmarks.run_time_keywords": run_time_keywords.RunTimeKeywordsArguments,
    "benchmarks.scores": scores.ScoresArguments,
    "benchmarks.serving": serving.ServingArguments,
    "benchmarks.session_leaks": session_leaks.SessionLeaksArguments,
    "benchmarks.speech_gate": speech_gate.SpeechGateArguments,
    "datasets_scripts.build_language_model": build_language_model.LanguageModelArguments,
    "datasets_scripts.make_demo_corpus": make_demo_corpus.DemoCorpusArguments,
    "datasets_scripts.convert_whisper": convert_whisper.ConversionArguments,
    "datasets_scripts.make_spoken_digits": make_spoken_digits.SpokenDigitsArguments,
    "datasets_scripts.make_study_corpus": make_study_corpus.StudyCorpusArguments,
    "datasets_scripts.make_text_table": make_text_table.TextTableArguments,
    "datasets_scripts.make_voice_corpus": make_voice_corpus.VoiceCorpusArguments,
}
MODULE_COMMANDS = [
    command
    for page in PAGES
    for command in re.findall(
        r"^python -m ((?:benchmarks|datasets_scripts)\.\w+) (.*)$", page.read_text("utf-8"), re.M
    )
]
TOXMTL_COMMANDS = [
    command for page in PAGES for command in re.findall(r"^toxmtl (.+)$", page.read_text("utf-8"), re.M)
]
HUB_FILES = [file.name for file in code_files()]
BASE_PACKAGES = {"torch", "numpy", "transformers", "huggingface_hub", "safetensors"}


def code_blocks(language: str, document: str = "README.md") -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_demo_and_test_are_one_command_each_and_ci_calls_the_second():
    blocks = [block.strip() for block in code_blocks("bash")]
    assert {"make demo", "make test"} <= set(blocks)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_make_targets_of_the_readme_exist():
    for target in re.findall(r"^make ([\w-]+)", README, flags=re.MULTILINE):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_run_mtl_commands_parse(document):
    text = "".join(code_blocks("bash", document))
    commands = re.findall(r"^(?:python|accelerate launch .*) ?run_mtl.py (.*)$", text, flags=re.MULTILINE)
    assert commands
    for command in commands:
        parse_arguments([*shlex.split(command), "--use_cpu"])


@pytest.mark.parametrize(("module", "arguments"), MODULE_COMMANDS, ids=[module for module, _ in MODULE_COMMANDS])
def test_module_commands_parse(module, arguments):
    HfArgumentParser(PARSED_BY[module]).parse_args_into_dataclasses(shlex.split(arguments))


@pytest.mark.parametrize("command", TOXMTL_COMMANDS)
def test_toxmtl_commands_parse(command):
    application, arguments = typer.main.get_command(cli.app), shlex.split(command)
    while arguments and arguments[0] in getattr(application, "commands", {}):
        application = application.commands[arguments.pop(0)]
    if arguments != ["--help"]:
        application.make_context("toxmtl", arguments)


def test_keyword_list_of_the_readme_loads():
    (block,) = code_blocks("json")
    assert KeywordList.from_dict(json.loads(block)).labels_of("shut up") == ("Bullying",)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what the documents' code works on; nothing is pushed from it."""
    monkeypatch.chdir(tmp_path)
    save_tiny_model(Path("runs/demo"))
    Path("clip.ogg").write_bytes(encode_opus(tone(RATE), RATE, 16_000))
    write_corpus(Path("my_clips"), train=1, validation=1, test=1)
    pushed = []
    for shared in (WavLMForToxicityMTL, ToxicityMTLProcessor):
        monkeypatch.setattr(shared, "push_to_hub", lambda self, repo_id: pushed.append((type(self), repo_id)))
    return pushed


def test_python_of_the_readme_gives_what_it_says(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    text = README.partition("```python\n")[2]
    code, _, rest = text.partition("```")
    exec(code, {})
    assert capsys.readouterr().out.strip() == rest.partition("```\n")[2].partition("```")[0].strip()


def test_python_of_the_recipes_runs(workplace):
    names = {}
    for block in code_blocks("python", "docs/recipes.md"):
        exec(block, names)
    spans = [(round(window["start"], 2), round(window["end"], 2)) for window in names["verdict"]["windows"]]
    assert spans == [(0, 0.5), (0.33, 0.83), (0.67, 1)]  # they overlap by a third
    assert names["scores"].shape == (1, len(LABELS)) and names["heard"].words is not None
    assert KeywordList.from_file("my_list.json").labels_of("shut up") == ("Bullying",)
    assert workplace == [(WavLMForToxicityMTL, "me/my-model"), (ToxicityMTLProcessor, "me/my-model")]
    assert "| train | 1 |" in names["card"]


def test_recipe_for_a_published_classifier_leaves_all_but_the_keyword_head(tmp_path, monkeypatch):
    """The command of the page, on a tiny classifier in the same layout: only calibration touches its labels."""
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^python run_mtl.py (.*roblox/voice-safety-classifier.*)$", text, flags=re.MULTILINE)
    source = tiny_classifier(LABELS)
    source.save_pretrained(tmp_path / "published")
    write_corpus(tmp_path / "my_clips")
    arguments = command.replace("roblox/voice-safety-classifier", str(tmp_path / "published")).split()
    arguments[0] = str(ROOT / arguments[0])
    monkeypatch.chdir(tmp_path)
    short = "--use_cpu --max_steps 2 --per_device_train_batch_size 4 --report_to none --seed 0"
    parsed = parse_arguments([*arguments, *short.split()])
    results = run_mtl(*parsed)
    trained, before = load_file(tmp_path / "runs/safety/model.safetensors"), source.state_dict()
    kept = [name for name in before if not name.startswith("classifier.")]
    assert all(torch.equal(trained[name], before[name]) for name in kept)
    scales = torch.tensor([results["calibration"][label]["scale"] for label in LABELS])[:, None]
    torch.testing.assert_close(trained["classifier.weight"], before["classifier.weight"] * scales)
    set_seed(0)
    fresh, _ = load_model(parsed[0])
    assert not torch.equal(trained["lm_head.weight"], fresh.lm_head.weight)


def test_metadata_of_the_recipes_is_read(tmp_path):
    (block,) = code_blocks("csv", "docs/recipes.md")
    header, *rows = csv.reader(block.splitlines())
    assert header == ["file_name", "split", "labels", "transcript"]
    assert [row[1] for row in rows] == ["train", "validation"]
    assert [read_labels(row[2]) for row in rows] == [["Profanity", "Bullying"], ["NoViolation"]]


def test_figures_of_the_keyword_page_are_those_of_the_benchmarks():
    page = (ROOT / "docs" / "keywords.md").read_text(encoding="utf-8")
    for name in ("decoding", "new_keywords", "scores", "timing"):
        assert (BENCHMARKS / f"{name}.md").read_text(encoding="utf-8").strip() in page, name
    scores = json.loads((BENCHMARKS / "scores.json").read_text(encoding="utf-8"))["results"]
    assert f"{scores['detections']} detections in the {scores['clips']} test clips" in page
    assert f"of which {scores['correct']} were said" in page


@pytest.mark.parametrize(
    ("module", "table"),
    [
        ("new_keywords", "markdown_table"),
        ("scores", "markdown"),
        ("timing", "markdown"),
        ("decoding", "markdown"),
        ("live", "markdown"),
        ("speech_gate", "markdown"),
    ],
)
def test_tables_are_those_of_the_results(module, table):
    results = json.loads((BENCHMARKS / f"{module}.json").read_text(encoding="utf-8"))["results"]
    render = getattr(import_module(f"benchmarks.{module}"), table)
    assert (BENCHMARKS / f"{module}.md").read_text(encoding="utf-8") == render(results) + "\n"


def test_figures_of_the_page_of_sessions_are_those_of_its_benchmarks():
    page = (ROOT / "docs" / "sessions.md").read_text(encoding="utf-8")
    for name in ("live", "speech_gate"):
        assert (BENCHMARKS / f"{name}.md").read_text(encoding="utf-8").strip() in page, name


def test_figures_of_the_backbone_page_are_those_of_its_benchmark():
    page = (ROOT / "docs" / "backbone.md").read_text(encoding="utf-8")
    assert (BENCHMARKS / "backbone-ablation.md").read_text(encoding="utf-8").strip() in page


@pytest.mark.parametrize(
    ("family", "encoder", "section"),
    [(WavLMToxicityMTLConfig, WavLMConfig, "WavLM"), (WhisperToxicityMTLConfig, WhisperConfig, "Whisper")],
)
def test_tables_of_configuration_fields(family, encoder, section):
    """Every field of our own with its default: those that the families share, and the family's."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    shared, *sections = page.split("\n## ")
    (own_section,) = (text for text in sections if text.startswith(section))
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", shared + own_section, flags=re.MULTILINE)
    config, inherited = family(), {field.name for field in fields(encoder)}
    own = {field.name for field in fields(config)} - inherited | {"ctc_zero_infinity"}  # WavLM's has another default
    assert {name: json.loads(default) for name, default in rows} == {name: getattr(config, name) for name in own}


@pytest.mark.parametrize(
    "document",
    sorted(
        {
            "CONTRIBUTING.md",
            "docs/configuration.md",
            "docs/backbone.md",
            "docs/keywords.md",
            "docs/moderation.md",
            "docs/records.md",
            "docs/redaction.md",
            "docs/report.md",
            "docs/promises.md",
            "docs/drift.md",
            "docs/paper_scale.md",
            "docs/study.md",
            "docs/corrections.md",
            "docs/runtime.md",
            "docs/sessions.md",
            "docs/service.md",
            "docs/space.md",
            "space/README.md",
            "datasets_scripts/README.md",
            *DOCUMENTS,
        }
    ),
)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_in_the_readme_are_those_of_the_results_file(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    row = markdown_table({"": (results["parameters"], results["test"])}).splitlines()[-1]
    assert row.removeprefix("|  |") in README, f"README.md lacks or alters the row of {path.name}"


@pytest.mark.parametrize("path", [*RESULTS, *sorted(BENCHMARKS.glob("*.json"))], ids=lambda path: path.name)
def test_results_name_no_folder_of_a_machine(path):
    assert not re.search(r'"(/|[A-Z]:\\\\)\w', path.read_text(encoding="utf-8"))


def test_there_are_results():
    assert {path.stem for path in RESULTS} >= {"wavlm_demo_mtl", "spoken_digits", "spanish_mtl"}


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_numbers_of_a_model_card_are_those_of_its_results(folder, tmp_path):
    card = (folder / "README.md").read_text(encoding="utf-8")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if "data" in results:  # of run_mtl.py: the card is rendered, and a hand edit shows
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
        assert write_model_card(tmp_path, name=re.search(r"^# (.+)$", card, flags=re.MULTILINE)[1]) == card
    else:
        for name, value in results.items():
            assert f"{value:,}" in card, f"{folder.name}: the card lacks {name} = {value:,}"
    assert card.startswith("---\n") and "license:" in card
    assert not list(folder.rglob("*.bin")), "pickled weights"


def test_the_released_demo_model_hears_an_insult():
    """From a voice that training never heard: what was said, when, and what it violates."""
    folder = ROOT / "model_cards" / "wavlm-tiny-toxmtl-demo"
    model, processor = WavLMForToxicityMTL.from_pretrained(folder), ToxicityMTLProcessor.from_pretrained(folder)
    assert model.dtype == torch.float32 and set(model.config.label_thresholds) == set(LABELS)
    moderate = ToxicityDetectionPipeline(model, processor)
    voice = VOICES["en"]["test"][0]
    insult, rate, words = synthesize_words("you absolute idiot", voice)
    (spoken,) = [word for word in words if word.text == "idiot"]
    verdict = moderate({"array": insult, "sampling_rate": rate}, return_keywords=True)
    assert "Bullying" in verdict["violations"] and verdict["labels"][0]["label"] == "Bullying"
    (heard,) = verdict["keywords"]
    assert heard["keyword"] == "idiot" and heard["score"] > 0.5
    assert heard["start"] == pytest.approx(spoken.start, abs=0.15)
    assert heard["end"] == pytest.approx(spoken.end, abs=0.2)
    plan, rate, _ = synthesize_words("meet me at the market tomorrow", voice)
    verdict = moderate({"array": plan, "sampling_rate": rate}, return_keywords=True)
    assert verdict["violations"] == verdict["keywords"] == []


@pytest.mark.parametrize("name", HUB_FILES)
def test_hub_files_are_flat_and_need_no_more_than_the_base_install(name):
    """transformers copies a model's code by its imports: others than these would be missed, or fail the load."""
    source = (ROOT / "modeling_toxmtl" / name).read_text(encoding="utf-8")
    tree = ast.parse(source)
    optional = {
        node for block in ast.walk(tree) if isinstance(block, ast.Try) for node in ast.walk(block) if node is not block
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 and f"{node.module}.py" in HUB_FILES, f"{name}: {ast.unparse(node)}"
        elif isinstance(node, ast.Import | ast.ImportFrom) and node not in optional:
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for module in modules:
                package = module.split(".")[0]
                assert package in BASE_PACKAGES | sys.stdlib_module_names, f"{name}: {ast.unparse(node)}"
    relative = re.findall(r"^\s*from\s+\.(\S+)\s+import", source, flags=re.MULTILINE)
    assert all(f"{module}.py" in HUB_FILES for module in relative), "the loader also reads docstrings this way"
