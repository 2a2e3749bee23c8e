"""What the repository promises beyond its modules: the README's commands and numbers, and files that can travel."""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import RATE, tiny_processor, tiny_speech_model, tone

from datasets_scripts.effects import encode_opus
from modeling_toxmtl import LABELS, KeywordList
from modeling_toxmtl.evaluation import markdown_table
from run_mtl import parse_arguments


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = sorted((ROOT / "experiments" / "results").glob("*.json"))
CARDS = sorted(path.parent for path in (ROOT / "model_cards").glob("*/config.json"))
# the files that travel to the Hub with a model
HUB_FILES = [
    *(f"{name}_toxmtl.py" for name in ("configuration", "backbone", "modeling", "processing", "pipeline")),
    *(f"{name}_toxmtl.py" for name in ("decoding", "language_model", "lexicon", "pyctcdecode")),
    *("keywords.py", "labels.py", "audio.py"),
]
BASE_PACKAGES = {"torch", "numpy", "transformers", "huggingface_hub", "safetensors"}


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_first_two_commands_are_demo_and_test_and_ci_calls_the_second():
    assert [block.strip() for block in code_blocks("bash")[:2]] == ["make demo", "make test"]
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_make_targets_of_the_readme_exist():
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_run_mtl_commands_of_the_readme_parse():
    commands = re.findall(r"^python run_mtl.py (.*)$", README, flags=re.MULTILINE)
    assert commands
    for command in commands:
        parse_arguments([*shlex.split(command), "--use_cpu"])


def test_keyword_list_of_the_readme_loads():
    (block,) = code_blocks("json")
    assert KeywordList.from_dict(json.loads(block)).labels_of("shut up") == ("Bullying",)


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_speech_model().save_pretrained("runs/demo")
    tiny_processor().save_pretrained("runs/demo")
    Path("clip.ogg").write_bytes(encode_opus(tone(RATE), RATE, 16_000))
    names = {}
    for block in code_blocks("python"):
        exec(block, names)
    assert {item["label"] for item in names["verdict"]["labels"]} == set(LABELS)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "datasets_scripts/README.md"])
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_in_the_readme_are_those_of_the_results_file(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    row = markdown_table({"": (results["parameters"], results["test"])}).splitlines()[-1]
    assert row.removeprefix("|  |") in README, f"README.md lacks or alters the row of {path.name}"


def test_there_are_results():
    assert {path.stem for path in RESULTS} >= {"demo_mtl", "spoken_digits"}


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_numbers_of_a_model_card_are_those_of_its_results(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for name, value in results.items():
        assert f"{value:,}" in card, f"{folder.name}: the card lacks {name} = {value:,}"
    assert card.startswith("---\n") and "license:" in card
    assert not list(folder.rglob("*.bin")), "pickled weights"


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
