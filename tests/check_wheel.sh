#!/usr/bin/env bash
# Installs the wheel in a bare environment with one extra at a time, away from the checkout, and runs that extra's
# commands; the commands of the others must say in one line what to install.
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
MODEL=$(ls -d "$ROOT"/model_cards/*toxmtl* | head -1)
cp "$ROOT"/docs/examples/*.ogg "$WORK"
cd "$WORK"

refuses() { # refuses EXTRA COMMAND…: names the extra in one line
    local extra=$1 output
    shift
    output=$("$@" 2>&1 >/dev/null) && { echo "$* should need [$extra]"; exit 1; }
    [ "$(wc -l <<<"$output")" = 1 ] && grep -qF "[$extra]" <<<"$output" || { echo "$*: $output"; exit 1; }
}

for extra in "${@:-base serve train data}"; do for extra in $extra; do
    cp -r base "env-$extra" && sed -i "s#$WORK/base#$WORK/env-$extra#g" "env-$extra"/bin/*
    [ "$extra" = base ] && suffix="" || suffix="[$extra]"
    "env-$extra/bin/python" -m pip install --quiet --no-compile "$WHEEL$suffix"
    TOXMTL="env-$extra/bin/toxmtl"
    "$TOXMTL" moderate "$MODEL" ./*.ogg >/dev/null
    case $extra in
    base)
        refuses train "$TOXMTL" calibrate "$MODEL"
        refuses train "$TOXMTL" export "$MODEL" exported
        refuses data "$TOXMTL" data run recordings
        ;;
    serve)
        "$TOXMTL" moderate "$MODEL" ./*.ogg --format parquet --output verdicts.parquet
        "$TOXMTL" replay verdicts.parquet ./insult.ogg
        "$TOXMTL" redact verdicts.parquet ./insult.ogg redacted.ogg && test -s redacted.ogg.json
        "$TOXMTL" report verdicts.parquet --output report.html && grep -q WaveSurfer report.html
        "$TOXMTL" to-label-studio verdicts.parquet && test -s label_studio/tasks.json
        ;;
    train)
        "$TOXMTL" export "$MODEL" exported && "$TOXMTL" moderate exported ./*.ogg >/dev/null
        for command in calibrate tune; do "$TOXMTL" $command --help >/dev/null; done
        ;;
    data)
        mkdir -p recordings && cp ./*.ogg recordings
        for file in ./*.ogg; do
            echo "{\"path\": \"recordings/$file\", \"start\": 0, \"end\": 2, \"text\": \"you idiot\"}"
        done >transcripts.jsonl
        "$TOXMTL" data run recordings --transcripts transcripts.jsonl --output-dir clips --num-proc 1
        test -s clips/README.md && ls clips/data/*.parquet >/dev/null
        refuses faster-whisper "$TOXMTL" data run recordings --asr-model faster-whisper:tiny --output-dir other \
            --work-dir other_work --num-proc 1
        ;;
    esac
    echo "$extra: good"
done; done
