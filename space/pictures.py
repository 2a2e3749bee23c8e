"""Decisions as HTML, in colours of the page's theme, light or dark. All names are escaped."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from modeling_toxmtl.labels import NO_VIOLATION
from modeling_toxmtl.moderation.record import NO_KEYWORD
from modeling_toxmtl.moderation.report import waveform


LABEL_NAMES = {"DatingAndSexting": "Dating and sexting", NO_VIOLATION: "No violation"}
MOST_NAMED = 12  # keywords above a waveform; more would cover each other
CSS = """
.gradio-container { max-width: 76rem !important; margin: auto; --raised: #d6453d; }
.dark audio { color-scheme: dark; }
.gradio-container .toxmtl .faint { color: var(--body-text-color-subdued); }
.toxmtl.verdict { padding: .6rem .9rem; border-left: .3rem solid var(--border-color-primary); }
.toxmtl.verdict b { font-size: 1.25rem; }
.toxmtl.verdict.raised { border-color: var(--raised); }
.gradio-container .toxmtl.raised b, .gradio-container .toxmtl .why, .gradio-container .toxmtl .word {
  color: var(--raised); }
.toxmtl.wave { position: relative; padding-top: 1.5rem; }
.toxmtl.wave svg { display: block; width: 100%; height: 6rem; }
.toxmtl.wave polygon { fill: var(--body-text-color-subdued); }
.toxmtl.wave rect { fill: var(--raised); opacity: .3; }
.toxmtl.wave rect.benign { fill: var(--body-text-color); }
.toxmtl.wave .word { position: absolute; top: 0; transform: translateX(-50%); white-space: nowrap; font-size: .8rem; }
.toxmtl.wave .times { display: flex; justify-content: space-between; font-size: .75rem; }
.toxmtl.score { display: grid; grid-template-columns: minmax(6rem, 10rem) 1fr 3rem; gap: 0 .6rem;
  align-items: center; padding: .2rem 0; }
.toxmtl.score .bar { position: relative; height: .7rem; border-radius: .35rem;
  background: var(--border-color-primary); }
.toxmtl.score .bar i { position: absolute; inset: 0 auto 0 0; border-radius: inherit;
  background: var(--body-text-color-subdued); }
.toxmtl.score.raised .bar i { background: var(--raised); }
.toxmtl.score .bar u { position: absolute; top: -.2rem; bottom: -.2rem; width: 2px;
  background: var(--body-text-color); }
.toxmtl.score .why { grid-column: 2 / -1; font-size: .8rem; }
.toxmtl.score .value { font-variant-numeric: tabular-nums; text-align: right; }
"""


def label_name(label: str) -> str:
    """As people read it."""
    return LABEL_NAMES.get(label, label)


def verdict_html(record: dict[str, Any]) -> str:
    """The decision in a line."""
    num_keywords = len(record["keywords"] or ())
    beside = f"{num_keywords} keyword{'s' * (num_keywords != 1)} in {record['audio']['seconds']:.1f} s"
    if record["violations"]:
        return raised_html(record["violations"], beside)
    return _line("", f"<b>{label_name(NO_VIOLATION)}</b> {_faint(beside)}")


def raised_html(violations: Sequence[str], beside: str) -> str:
    """Violations in a line, and what stands beside them."""
    names = escape(", ".join(map(label_name, violations)))
    return _line(" raised", f"<b>{names}</b> {_faint(beside)}")


def message_html(text: str) -> str:
    """Something else than a decision, such as what is wrong with a file."""
    return _line("", escape(text))


def _line(kind, content):
    return f'<div class="toxmtl verdict{kind}" role="status">{content}</div>'


def _faint(text):
    return f'<span class="faint">{escape(text)}</span>'


def scores_html(record: dict[str, Any]) -> str:
    """A bar for each label's score, a tick at its threshold, and why it fires."""
    labels = [item for item in record["labels"] or () if item["label"] != NO_VIOLATION]
    return "".join(map(_score, labels))


def _score(item):
    name, value = escape(label_name(item["label"])), f"{item['score']:.2f}"
    width, tick = (f"{100 * item[key]:.1f}%" for key in ("score", "threshold"))
    why = f'<span class="why">{escape(_why(item["evidence"]))}</span>' if item["evidence"] else ""
    return (
        f'<div class="toxmtl score{" raised" * item["fires"]}"><span>{name}</span>'
        f'<span class="bar" title="score {value}, threshold {item["threshold"]:.2f}">'
        f'<i style="width:{width}"></i><u style="left:{tick}"></u></span>'
        f'<span class="value">{value}</span>{why}</div>'
    )


def _why(evidence):
    words = dict.fromkeys(word["keyword"] for word in evidence["keywords"])
    return ", ".join(words) or NO_KEYWORD


def wave_html(samples: np.ndarray, record: dict[str, Any]) -> str:
    """The clip's waveform, with the spans of its keywords and, where they are few, their names."""
    seconds, keywords = record["audio"]["seconds"], record["keywords"] or []
    peaks = waveform(samples)
    top = max(peaks, default=0.0) or 1.0
    heights = [50 * peak / top for peak in peaks]
    above = [f"{x},{50 - height:.1f}" for x, height in enumerate(heights)]
    below = [f"{x},{50 + height:.1f}" for x, height in reversed(list(enumerate(heights)))]
    spans = "".join(_span(word, seconds, len(peaks)) for word in keywords)
    names = "".join(_name(word, seconds) for word in keywords) if len(keywords) <= MOST_NAMED else ""
    return (
        f'<div class="toxmtl wave">{names}<svg viewBox="0 0 {max(len(peaks) - 1, 1)} 100" preserveAspectRatio="none" '
        f'role="img" aria-label="waveform"><polygon points="{" ".join(above + below)}"/>{spans}'
        f'</svg><div class="times">{_faint("0 s")}{_faint(f"{seconds:.1f} s")}</div></div>'
    )


def _span(word, seconds, width):
    start, length = (width * value / seconds for value in (word["start"], word["end"] - word["start"]))
    kind = ' class="benign"' if word["benign"] else ""
    title = f"<title>{escape(word['keyword'])}</title>"
    return f'<rect{kind} x="{start:.1f}" y="0" width="{length:.1f}" height="100">{title}</rect>'


def _name(word, seconds):
    middle = 50 * (word["start"] + word["end"]) / seconds
    return f'<span class="word" style="left:{min(max(middle, 4), 96):.1f}%">{escape(word["keyword"])}</span>'


def keyword_text(word: dict[str, Any]) -> str:
    """Of a keyword that can be played."""
    return f"▶ {word['keyword']} {word['start']:.1f} s · {word['score']:.2f}" + " · benign" * bool(word["benign"])
