"""The command `toxmtl`: judge clips, calibrate, tune and export models, and make data sets.

Design choices:
- A command is a module's `main(*arguments)`, whose dataclasses say everything about its options: a field without a
  default is a positional argument, any other an option, and `help` and `choices` of its metadata are its own.
- A command's module is imported when the command runs, so that `toxmtl --help` answers at once and needs no extra.
- Errors of the user's making are one line on the standard error and exit status 1.
- What an encoding lacks is written otherwise, for a verdict must not be lost to a terminal's setting or a file's name.
"""

import codecs
import dataclasses
import importlib
import inspect
import io
import re
import sys
import typing
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand


MODERATION_COMMANDS = {  # name: module, extra that it needs, what it does
    "moderate": ("moderation.moderate", "serve", "Judge clips: violations, keywords, and why."),
    "report": ("moderation.report", "serve", "Make a page of verdicts to check by ear."),
    "redact": ("moderation.redact", "serve", "Take keywords out of a recording: mute, beep or cut."),
    "replay": ("moderation.replay", "serve", "Hear a clip again, and compare with its record."),
    "serve": ("moderation.serving.server", "serve", "Judge clips and live sessions over HTTP and WebSocket."),
    "drift": ("moderation.drift", "serve", "Compare a week's records with older ones."),
    "to-label-studio": ("moderation.to_label_studio", "serve", "Write doubtful clips as tasks for people."),
    "from-label-studio": ("moderation.from_label_studio", "serve", "Read what people decided."),
}
MODEL_COMMANDS = {
    "calibrate": ("training.calibration", "train", "Make scores probabilities, and choose thresholds."),
    "tune": ("training.tuning", "train", "Find the best settings to decode keywords with."),
    "export": ("training.export", "train", "Make a complete model folder, and push it to the Hub."),
}
DATA_COMMANDS = {
    "run": ("data.run", "data", "All stages: recordings in, data set out."),
    "chunk": ("data.chunk", "data", "Stage 1: cut recordings into chunks of speech."),
    "transcribe": ("data.transcribe", "data", "Stage 2: transcribe the chunks."),
    "label": ("data.label", "data", "Stage 3: label the transcripts."),
    "annotate": ("data.annotate", "data", "Stage 4: find the keywords, with times."),
    "build": ("data.build", "data", "Stage 5: write the data set and its splits."),
    "train-text-filter": ("data.text_filter", "train", "Train the classifier of the label stage."),
}
# of Python modules that an extra brings under another name
EXTRAS_OF = {
    "faster_whisper": "faster-whisper",
    "kenlm": "lm",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "openvino": "openvino",
    "pyctcdecode": "pyctcdecode",
    "ray": "ray",
}
USER_ERRORS = (ValueError, OSError, RuntimeError, ImportError)
PLAIN = {"█": "#", "–": "-", "…": "..."}  # of our own signs; other characters become their number, as \u0434

SETTINGS = {"token_normalize_func": lambda option: option.replace("_", "-"), "help_option_names": ["-h", "--help"]}
app = typer.Typer(
    help="Hear toxicity in voice chat: judge clips, fit models to your community, make data sets.",
    context_settings=SETTINGS,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Make data sets of labelled clips from recordings.", rich_markup_mode=None)


class _LazyCommand(TyperCommand):
    """A command whose module says what its options are, once it is asked for them."""

    module: str
    extra: str

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            module = importlib.import_module(f".{self.module}", __package__)
        except ModuleNotFoundError as error:
            raise _missing(error, self.extra) from error
        command = typer.main.get_command(_app_of(module.main))
        self.params, self.callback = command.params, _naming_extra(command.callback, self.extra)
        self.help = _unwrapped(inspect.getdoc(module))
        return super().make_context(*args, **kwargs)


def _app_of(main: typing.Callable) -> typer.Typer:
    """An application of one command, with an option for each field of the dataclasses that `main` takes."""
    arguments = {name: kind for name, kind in typing.get_type_hints(main).items() if name != "return"}

    def run(**values: Any) -> None:
        main(*(kind(**{field.name: values[field.name] for field in _fields(kind)}) for kind in arguments.values()))

    parameters = [_parameter(field, kind) for kind in arguments.values() for field in _fields(kind)]
    run.__signature__ = inspect.Signature(
        sorted(parameters, key=lambda parameter: parameter.default is not inspect._empty)
    )
    one_command = typer.Typer(add_completion=False)
    one_command.command()(run)
    return one_command


def _fields(kind: type) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(kind) if field.init]


def _parameter(field: dataclasses.Field, owner: type) -> inspect.Parameter:
    """A field as typer wants it: annotated, keyword-only."""
    kind = typing.get_type_hints(owner)[field.name]
    if choices := field.metadata.get("choices"):
        kind = Literal[tuple(choices)]
    help_text = field.metadata.get("help")
    is_required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    if is_required:
        return _keyword(field.name, Annotated[kind, typer.Argument(help=help_text)], inspect.Parameter.empty)
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return _keyword(field.name, Annotated[kind, typer.Option(help=help_text)], default)


def _keyword(name, annotation, default):
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _naming_extra(function: typing.Callable, extra: str) -> typing.Callable:
    """Some libraries are imported when they are needed."""

    def call(**values: Any) -> Any:
        try:
            return function(**values)
        except ModuleNotFoundError as error:
            raise _missing(error, extra) from error

    return call


def _missing(error: ModuleNotFoundError, extra: str) -> ValueError:
    package = (error.name or "").partition(".")[0]
    return ValueError(f"this needs {package}: pip install 'modeling-toxmtl[{EXTRAS_OF.get(package, extra)}]'")


def _unwrapped(text: str) -> str:
    r"""Help text whose examples, indented by four spaces, are kept as they are (`\b`)."""
    return re.sub(r"\n\n(?=    )", "\n\n\b\n", text)


def _add(application: typer.Typer, commands: dict[str, tuple[str, str, str]]) -> None:
    for name, (module, extra, help_text) in commands.items():
        kind = type("LazyCommand", (_LazyCommand,), {"module": module, "extra": extra})
        application.command(name, cls=kind, help=help_text, context_settings=SETTINGS)(lambda: None)


_add(app, MODERATION_COMMANDS)
_add(app, MODEL_COMMANDS)
_add(data_app, DATA_COMMANDS)
app.add_typer(data_app, name="data", no_args_is_help=True)


def _plain(error: UnicodeEncodeError) -> tuple[str, int]:
    """What to write instead of characters that an encoding lacks, and where to go on."""
    sign = error.object[error.start]
    if sign in PLAIN:
        return PLAIN[sign], error.start + 1
    error.end = error.start + 1
    return codecs.backslashreplace_errors(error)


def main(argv: list[str] | None = None) -> None:
    """The entry of the console script; exits with 0, 1 (an error of the user's making) or 2 (a wrong option)."""
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # another need not have an encoding
            stream.reconfigure(errors="plain")
    try:
        app(argv, prog_name="toxmtl")
    except USER_ERRORS as error:
        print(f"toxmtl: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
