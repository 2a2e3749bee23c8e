"""A page to try a model: a clip's verdict with its evidence, redaction and record, and a microphone live.

    python space/app.py  # or `make space`

It stands in the format of a Hugging Face Space. `TOXMTL_MODEL` is the folder or Hub id of the model, by default the
one released with this repository. This file lays out the page and says what follows from what; what is heard, decided
and drawn is in the files beside it, which know nothing of Gradio.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import live
from choices import COLUMNS, STEP, Choices, own_judge
from clips import HeardClip, decide, excerpt, hear, write_record, write_redacted
from pictures import CSS, keyword_text, label_name, message_html, scores_html, verdict_html, wave_html

from modeling_toxmtl.moderation.hearing import load_judge
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.redact import WAYS


HERE = Path(__file__).resolve().parent
RELEASED = HERE.parent / "model_cards" / "whisper-tiny-en-toxmtl"
# on a Space, this folder is all that there is
EXAMPLES = HERE / "examples" if (HERE / "examples").is_dir() else HERE.parent / "docs" / "examples"
THEME = gr.themes.Soft(
    primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)  # no fonts of another host
INTRO = """# Voice toxicity

Hears toxicity in speech directly: which kinds of it, and which keywords were said, when and how surely. The model was
trained on synthetic voices and is no moderation tool.
"""
PLAIN = gr.WaveformOptions(show_recording_waveform=False)  # the waveform with the keywords is below
CLIP_HINT = "Record, upload or choose a clip. Its verdict appears here."
STATE_SECONDS = 3600  # that what a visitor gave is kept
LIVE_SECONDS = 600.0  # that a microphone may stay on
MAX_FILE = "50mb"  # of an upload
CHUNK = 1.0  # seconds of a microphone that come at once


def inputs_part() -> SimpleNamespace:
    """A clip, or a live microphone, which stands in no tab: made later, it would forget `CHUNK`."""
    part = SimpleNamespace()
    with gr.Row():
        part.clip = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="A clip",
            editable=False,
            waveform_options=PLAIN,
            min_width=240,
        )
        part.microphone = gr.Audio(
            sources=["microphone"], streaming=True, type="numpy", label="Live microphone", min_width=240
        )
    gr.Examples([[str(path)] for path in sorted(EXAMPLES.glob("*.ogg"))], [part.clip], label="Examples")
    return part


def clip_part() -> SimpleNamespace:
    """A clip's verdict, waveform, keywords to play, scores, redacted sound and record."""
    part = SimpleNamespace()
    part.heard = gr.State(None, time_to_live=STATE_SECONDS)
    part.verdict = gr.HTML(message_html(CLIP_HINT))
    part.wave = gr.HTML()
    part.words = gr.Dataset(
        components=["text"], samples=[], type="index", label="Keywords: play from here", visible=False
    )
    part.excerpt = gr.Audio(
        label="From the keyword on", interactive=False, autoplay=True, visible=False, buttons=[], elem_id="excerpt"
    )
    gr.Markdown("### Scores\nThe tick is the threshold.")
    part.scores = gr.HTML()
    gr.Markdown("### Redacted")
    part.how = gr.Radio(list(WAYS), value="beep", label="Keywords become", show_label=False)
    part.redacted = gr.Audio(label="Without its keywords", interactive=False, buttons=["download"])
    part.file = gr.DownloadButton("Download the decision record", interactive=False)
    with gr.Accordion("Decision record", open=False):
        part.record = gr.JSON(show_label=False, max_height=400)
    # what follows from a decision; of what is redacted, thresholds of labels change nothing
    part.decided = [part.verdict, part.wave, part.words, part.scores, part.record, part.file]
    part.all = [*part.decided, part.redacted, part.excerpt]
    return part


def live_part() -> SimpleNamespace:
    """What is the matter at the microphone now, and all events."""
    part = SimpleNamespace()
    part.listening = gr.State(None, time_to_live=STATE_SECONDS)
    part.now = gr.HTML(message_html("Start the microphone, and speak."))
    part.events = gr.Dataframe(
        headers=list(live.COLUMNS),
        interactive=False,
        column_widths=["15%", "25%", "60%"],
        max_height=420,
        label="Events, the latest first",
    )
    part.file = gr.DownloadButton("Download the decision records", interactive=False)
    return part


def choices_part(judge: Judge) -> SimpleNamespace:
    """Thresholds and the keyword list."""
    own = Choices.of(judge)
    part = SimpleNamespace(labels=list(own.places))
    part.choices = gr.State(own)
    with gr.Tabs():
        with gr.Tab("Thresholds"):
            gr.Markdown("A label counts from its threshold on.")
            part.sliders = [
                gr.Slider(0, 1, value=place, step=STEP, label=label_name(label), elem_id=f"threshold-{label}")
                for label, place in own.places.items()
            ]
            part.reset = gr.Button("The model's thresholds", size="sm")
        with gr.Tab("Keywords"):
            gr.Markdown("Other words are found in the clip at once; the model need not hear it again.")
            _word_form(part, own)
    return part


def _word_form(part, own):
    part.word = gr.Textbox(label="Word or phrase", max_length=60, elem_id="word")
    part.word_labels = gr.Dropdown(
        [(label_name(label), label) for label in part.labels], value=["Other"], multiselect=True, label="Labels"
    )
    part.variants = gr.Textbox(label="Also written", placeholder="spellings, separated by commas", max_length=300)
    part.threshold = gr.Slider(0, 1, value=0.0, step=0.01, label="Reported from this score on")
    with gr.Row():
        part.save = gr.Button("Add or change", variant="primary", min_width=120)
        part.remove = gr.Button("Remove", min_width=120)
    part.table = gr.Dataframe(
        own.table(),
        headers=list(COLUMNS),
        interactive=False,
        column_widths=["30%", "30%", "25%", "15%"],
        max_height=360,
        show_search="filter",
        label="Choose a row to change it",
    )
    with gr.Row():
        part.upload = gr.UploadButton("Use a list (JSON)", file_types=[".json"], size="sm", min_width=120)
        part.own_list = gr.Button("The model's list", size="sm", min_width=120)


class Page:
    """What the page does.

    Args:
        judge: which all visitors share; none of them changes it.
    """

    def __init__(self, judge: Judge):
        self.judge = judge

    def hear(self, path: str | None, choices: Choices, how: str):
        """A clip was given, or taken away."""
        if path is None:
            return None, *self._nothing(CLIP_HINT)
        try:
            heard = hear(self.judge, path)
        except ValueError as error:
            return None, *self._nothing(str(error))
        return heard, *self.show(heard, choices, how)

    def show(self, heard: HeardClip | None, choices: Choices, how: str):
        """All that is shown of a clip."""
        if heard is None:
            return self._nothing(CLIP_HINT)
        record = decide(own_judge(self.judge, choices), heard)
        return *self._decided(heard, record), *self._redacted(heard, record, how), gr.Audio(visible=False, value=None)

    def move(self, heard: HeardClip | None, choices: Choices, *thresholds: float):
        """Thresholds were moved: the choices, and what was decided by them."""
        choices = choices.moved(thresholds)
        if heard is None:
            return choices, *[gr.skip()] * 6
        return choices, *self._decided(heard, decide(own_judge(self.judge, choices), heard))

    def redact(self, heard: HeardClip | None, choices: Choices, how: str):
        """Keywords are taken out in another way."""
        if heard is None:
            return gr.skip()
        return self._redacted(heard, decide(own_judge(self.judge, choices), heard), how)[0]

    def play(self, heard: HeardClip | None, record: dict | None, number: int):
        """From a keyword on; first nothing, so that the same one can be played again."""
        if heard is None or record is None:
            return
        yield gr.Audio(value=None, visible=True, playback_position=0)
        start = record["keywords"][number]["start"]
        yield gr.Audio(value=excerpt(heard, start), visible=True, playback_position=0)  # or where the last one ended

    def choose(self, choices: Choices, edit):
        """The choices after an edit of the list, and its table; what is wrong with the edit is told."""
        try:
            edited = edit()
            own_judge(self.judge, edited)  # the model may not be able to write a word
        except ValueError as error:
            gr.Warning(str(error), title="The list stays as it was")
            edited = choices
        return edited, edited.table()

    def _decided(self, heard, record):
        words = [[keyword_text(word)] for word in record["keywords"] or ()]
        return (
            verdict_html(record),
            wave_html(heard.samples, record),
            gr.Dataset(samples=words, visible=bool(words)),
            scores_html(record),
            record,
            gr.DownloadButton(value=write_record(heard, record), interactive=True),
        )

    def _redacted(self, heard, record, how):
        try:
            return (gr.Audio(value=write_redacted(heard, record, how), label="Without its keywords"),)
        except ValueError as error:
            return (gr.Audio(value=None, label=str(error).replace(heard.path, heard.name)),)

    def _nothing(self, message):
        unseen = gr.Dataset(samples=[], visible=False)
        no_file = gr.DownloadButton(value=None, interactive=False)
        return message_html(message), "", unseen, "", None, no_file, None, gr.Audio(value=None, visible=False)


class LivePage:
    """What the live mode does; arguments are as of [`Page`]."""

    def __init__(self, judge: Judge):
        self.judge = judge

    def start(self, choices: Choices):
        """The microphone is on."""
        listening = live.Listening(self.judge, choices)
        return listening, *self._shown(listening), gr.DownloadButton(value=None, interactive=False)

    def feed(self, sound, listening: live.Listening | None, choices: Choices):
        """Some sound came."""
        if listening is None or sound is None:
            return gr.skip(), gr.skip()
        listening.feed(*sound, choices)
        return self._shown(listening)

    def stop(self, listening: live.Listening | None):
        """The microphone is off."""
        if listening is None:
            return gr.skip(), gr.skip(), gr.skip()
        listening.finish()
        file = listening.write_records()
        return *self._shown(listening), gr.DownloadButton(value=file, interactive=file is not None)

    def _shown(self, listening):
        return live.state_html(listening), listening.lines


def wire_clip(page: Page, audio: gr.Audio, clip: SimpleNamespace, chosen: SimpleNamespace) -> None:
    """What a clip, its keywords and the way of redaction bring about."""
    audio.change(page.hear, [audio, chosen.choices, clip.how], [clip.heard, *clip.all], concurrency_id="judge")
    clip.words.click(page.play, [clip.heard, clip.record, clip.words], clip.excerpt, show_progress="hidden")
    clip.how.input(page.redact, [clip.heard, chosen.choices, clip.how], clip.redacted)


def wire_choices(page: Page, clip: SimpleNamespace, chosen: SimpleNamespace) -> None:
    """What another threshold, or another list, brings about."""
    own = Choices.of(page.judge)
    gr.on(
        [slider.change for slider in chosen.sliders],
        page.move,
        [clip.heard, chosen.choices, *chosen.sliders],
        [chosen.choices, *clip.decided],
        show_progress="hidden",
        trigger_mode="always_last",
    )
    chosen.reset.click(lambda: list(own.places.values()), None, chosen.sliders)
    edits = [
        (chosen.save.click, Choices.with_word, [chosen.word, chosen.word_labels, chosen.variants, chosen.threshold]),
        (chosen.word.submit, Choices.with_word, [chosen.word, chosen.word_labels, chosen.variants, chosen.threshold]),
        (chosen.remove.click, Choices.without_word, [chosen.word]),
        (chosen.upload.upload, Choices.with_list, [chosen.upload]),
        (chosen.own_list.click, lambda choices: Choices(own.keywords, choices.thresholds), []),
    ]
    for event, edit, inputs in edits:
        event(
            lambda choices, *values, edit=edit: page.choose(choices, lambda: edit(choices, *values)),
            [chosen.choices, *inputs],
            [chosen.choices, chosen.table],
        ).then(page.show, [clip.heard, chosen.choices, clip.how], clip.all, concurrency_id="judge")
    fields = [chosen.word, chosen.word_labels, chosen.variants, chosen.threshold]
    chosen.table.select(_fields_of, None, fields, show_progress="hidden")


def _fields_of(row: gr.SelectData):
    """Of the keyword in the row that was chosen."""
    word, labels, variants, threshold = row.row_value
    return word, labels.split(", "), variants, float(threshold)


def wire_live(page: LivePage, microphone: gr.Audio, part: SimpleNamespace, chosen: SimpleNamespace) -> None:
    """What a microphone brings about."""
    shown = [part.now, part.events]
    microphone.start_recording(page.start, chosen.choices, [part.listening, *shown, part.file])
    microphone.stream(
        page.feed,
        [microphone, part.listening, chosen.choices],
        shown,
        stream_every=CHUNK,
        time_limit=LIVE_SECONDS,
        concurrency_limit=8,
        show_progress="hidden",
    )
    microphone.stop_recording(page.stop, part.listening, [*shown, part.file])


def build(judge: Judge) -> gr.Blocks:
    """The page of a model."""
    with gr.Blocks(title="Voice toxicity", analytics_enabled=False, delete_cache=(600, STATE_SECONDS)) as blocks:
        gr.Markdown(INTRO)
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                given = inputs_part()
                with gr.Tabs() as tabs:
                    with gr.Tab("The clip", id="clip"):
                        clip = clip_part()
                    with gr.Tab("Live", id="live"):
                        listened = live_part()
            with gr.Column(scale=2, min_width=320):
                chosen = choices_part(judge)
        page = Page(judge)
        wire_clip(page, given.clip, clip, chosen)
        wire_choices(page, clip, chosen)
        wire_live(LivePage(judge), given.microphone, listened, chosen)
        given.clip.change(lambda: gr.Tabs(selected="clip"), None, tabs, show_progress="hidden")
        given.microphone.start_recording(lambda: gr.Tabs(selected="live"), None, tabs, show_progress="hidden")
    return blocks


def main() -> None:
    """Serves the page."""
    judge = Judge(load_judge(os.environ.get("TOXMTL_MODEL", str(RELEASED))))
    build(judge).launch(theme=THEME, css=CSS, footer_links=["gradio", "settings"], max_file_size=MAX_FILE)


if __name__ == "__main__":
    main()
