#!/usr/bin/env bash
# Eight short conversations learnt by heart, on processors: all of SmolLM2-135M's weights are trained in f32 until the loss over the eight is at most 0.05.
# Then the model is asked each of them again, and what it answers is held against what it was taught, word for word.
#
#     trainer/examples/overfit.sh PROGRAMS STUDENT OUT
#
# PROGRAMS has sera-trainer (`cargo build --release -p sera-trainer` puts it into target/release), STUDENT is the directory of SmolLM2-135M-Instruct with
# its chat template (builtin://tiny; docs/models.md says how it is imported). The conversations, eight.jsonl, are of the rehearsal teacher's rollouts on
# the repository builtin://rehearsal, taken by short.py.
set -euo pipefail

trainer=$(realpath "$1")/sera-trainer student=$(realpath "$2")
mkdir -p "$3/dataset"
out=$(realpath "$3")
here=$(dirname "$(realpath "$0")")
readonly enough=0.05

# The same lines are watched: the training's own loss is that of the weights before each step.
cp "$here/eight.jsonl" "$out/dataset/train.jsonl"
cp "$here/eight.jsonl" "$out/dataset/eval.jsonl"
cat >"$out/training.yaml" <<END
method: {full: {}}
epochs: ${EPOCHS:-30}
globalBatch: 8
learningRate: "${LEARNING_RATE:-2e-4}"
precision: fp32
contextLength: 512
packing: true
END

from=$SECONDS
"$trainer" train --student "$student" --dataset "$out/dataset" --out "$out/trained" --plan "$out/training.yaml" --eval-every 5
echo "trained in $((SECONDS - from)) s"

python3 - "$trainer" "$out" "$enough" <<'PYTHON'
import json, pathlib, subprocess, sys

trainer, out, enough = sys.argv[1], pathlib.Path(sys.argv[2]), float(sys.argv[3])
points = [json.loads(line) for line in (out / "trained/losses.jsonl").read_text().splitlines()]
for point in points:
    if "evalLoss" in point:
        print(f"step {point['step']:3}  loss {point['loss']:.4f}, and after it {point['evalLoss']:.4f}")

known = 0
for line in (out / "dataset/train.jsonl").read_text().splitlines():
    *asked, answer = json.loads(line)["messages"]
    (out / "messages.json").write_text(json.dumps(asked))
    said = subprocess.run([trainer, "generate", "--model", out / "trained/model", "--messages", out / "messages.json", "--max-tokens", "256"],
                          check=True, capture_output=True, text=True).stdout
    known += said.strip() == answer["content"] + "<|im_end|>"
print(f"{known} of 8 answers are said word for word")
sys.exit(points[-1]["evalLoss"] > enough or known < 8)
PYTHON
