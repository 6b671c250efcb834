#!/usr/bin/env bash
# A training that can be watched learning, on processors: a rehearsal teacher's rollouts on a repository become a dataset, short conversations are taken out
# of it, SmolLM2-135M learns them by LoRA, and `generate` answers one that was set aside, before and after. Run again, rollouts that are there are taken.
#
#     trainer/examples/learn.sh PROGRAMS REPOSITORY STUDENT OUT
#
# PROGRAMS has sera-rollout, sera-sandbox, sera-teacher and sera-trainer (`cargo build --workspace --bins` puts them into target/debug), REPOSITORY is a
# clone, STUDENT the directory of SmolLM2-135M-Instruct with its chat template (builtin://tiny; docs/models.md says how it is imported).
set -euo pipefail

programs=$(realpath "$1") repository=$(realpath "$2") student=$(realpath "$3")
mkdir -p "$4"
out=$(realpath "$4")
here=$(dirname "$(realpath "$0")")
# How many rollouts are made, how many conversations are learnt, and where the teacher listens.
samples=${SAMPLES:-32} lines=${LINES_TO_LEARN:-36} port=${PORT:-8123}
store=file://$out/run

cat >"$out/policy.yaml" <<END
threshold: "0.5"
student: {toolCallFormat: Hermes, contextLength: 8192, minKeptRatio: "0.5"}
END
cat >"$out/dataset.yaml" <<END
acceptedTrajectories: $samples
firstRolloutShare: "0.5"
evalFraction: "0.2"
END
cat >"$out/training.yaml" <<END
method: {lora: {rank: 8, alpha: 16}}
epochs: 3
globalBatch: 4
learningRate: "1e-3"
contextLength: 512
END

rollouts() {
    [ -e "$out/run/dataset/manifest.json" ] && return
    "$programs/sera-rollout" snapshot --url "$repository" --store "$store"
    "$programs/sera-teacher" rehearse --listen "127.0.0.1:$port" &
    local teacher=$!
    trap 'kill $teacher' RETURN
    "$programs/sera-rollout" rollout --store "$store" --batch b1 --count "$samples" --teacher-url "http://127.0.0.1:$port/v1" \
        --teacher-model rehearsal --rehearsal --sandbox local --slots 2
    "$programs/sera-rollout" verify --store "$store" --batch b1 --first 0 --count "$samples" --settings "$out/policy.yaml" --student "$student"
    "$programs/sera-rollout" dataset --store "$store" --plan "$out/dataset.yaml" --verification "$out/policy.yaml" --student "$student"
}

# What the model answers to the first conversation that was set aside.
answer() {
    head -n 1 "$out/dataset/eval.jsonl" | python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["messages"][:-1]))' >"$out/messages.json"
    "$programs/sera-trainer" generate --model "$1" --messages "$out/messages.json" --max-tokens 200
}

rollouts
python3 "$here/short.py" "$out/run/dataset" "$out/dataset" "$lines"
answer "$student" >"$out/before.txt"
"$programs/sera-trainer" train --student "$student" --dataset "$out/dataset" --out "$out/trained" --plan "$out/training.yaml" --eval-every 9
answer "$out/trained/model" >"$out/after.txt"
echo "== before"; cat "$out/before.txt"; echo "== after"; cat "$out/after.txt"
echo "== loss over the lines set aside, step by step"
python3 -c 'import json, sys
for line in open(sys.argv[1]):
    point = json.loads(line)
    if "evalLoss" in point:
        print(point["step"], round(point["loss"], 4), round(point["evalLoss"], 4))' "$out/trained/losses.jsonl"
