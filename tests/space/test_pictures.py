"""What a decision looks like: `space/pictures.py`."""

import re

import numpy as np
import pytest
from clips import decide
from pictures import keyword_text, message_html, scores_html, verdict_html, wave_html


EVIL = '<img src="x" onerror="alert(1)">'


@pytest.fixture
def record(judge, insult):
    return decide(judge, insult)


def test_the_verdict(judge, record, harmless):
    html = verdict_html(record)
    assert "raised" in html and "<b>Bullying</b>" in html and "2 keywords in 3.8 s" in html
    none = verdict_html(record | {"violations": [], "keywords": record["keywords"][:1]})
    assert "raised" not in none and "<b>No violation</b>" in none and "1 keyword in" in none


def test_scores_have_a_bar_a_tick_and_a_reason(record):
    html = scores_html(record)
    assert html.count('class="bar"') == 5 and "No violation" not in html
    (item,) = [item for item in record["labels"] if item["label"] == "Bullying"]
    bullying = re.search(r"<div[^>]*raised.*?</div>", html)[0]
    assert f"width:{100 * item['score']:.1f}%" in bullying and f"left:{100 * item['threshold']:.1f}%" in bullying
    assert "shut up, idiot" in bullying
    item["evidence"]["keywords"] = []
    assert "by context or tone" in scores_html(record)


def test_spans_stand_where_the_keywords_are(record):
    html = wave_html(np.ones(3200), record)
    left, width = (float(value) for value in re.search(r'<rect x="([\d.]+)" y="0" width="([\d.]+)"', html).groups())
    word, seconds = record["keywords"][0], record["audio"]["seconds"]
    assert left == pytest.approx(800 * word["start"] / seconds, abs=0.1)
    assert width == pytest.approx(800 * (word["end"] - word["start"]) / seconds, abs=0.1)
    assert html.count("<rect") == html.count('class="word"') == 2
    assert "nan" not in wave_html(np.zeros(0), record) and "nan" not in wave_html(np.zeros(100), record)


def test_names_are_text_and_many_do_not_cover_each_other(record):
    words = [record["keywords"][0] | {"keyword": EVIL}]
    html = wave_html(np.ones(10), record | {"keywords": words}) + message_html(EVIL)
    assert "<img" not in html and html.count("&lt;img") == 3
    many = wave_html(np.ones(10), record | {"keywords": words * 20})
    assert many.count("<rect") == 20 and 'class="word"' not in many


def test_keywords_to_play(record):
    assert keyword_text(record["keywords"][1]).startswith("▶ idiot 2.4 s · ")
    assert keyword_text(record["keywords"][1] | {"benign": True}).endswith("benign")
