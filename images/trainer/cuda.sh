#!/usr/bin/env bash
# Builds sera-trainer for NVIDIA GPUs, on a machine that need not have one, and shows what the program says where there is none.
#   images/trainer/cuda.sh            all of it, in target/cuda
#   images/trainer/cuda.sh toolkit    NVIDIA's compiler, headers and libraries alone (wants python3 with pip)
#   images/trainer/cuda.sh flash      FlashAttention-2 as a library, from its source package, and a test of how it is called (wants g++)
#   images/trainer/cuda.sh build      the program, with the toolkit that is there (wants cargo and g++)
#   images/trainer/cuda.sh show       what the program says here
#   images/trainer/cuda.sh libraries FOLDER   what of NVIDIA's has to lie on LD_LIBRARY_PATH where the program runs, beside the driver
#   images/trainer/cuda.sh licences FOLDER    the licences of what of others' sources is linked into the program beside its crates
#   images/trainer/cuda.sh run COMMAND…   a command with the toolkit's environment, such as cargo test --features cuda
#   images/trainer/cuda.sh clippy     looks through what is compiled for GPUs alone, in minutes and with nothing of NVIDIA's (wants cargo)
#
# SERA_CUDA_FOLDER says where to (some 5 GB), SERA_CUDA_CAPABILITY for which GPUs (90: H100 and H200), SERA_CUDA_FEATURES with what
# (nccl,flash-attention: with FlashAttention-2, which is built before).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

folder="$(realpath -m "${SERA_CUDA_FOLDER:-target/cuda}")"
readonly folder
readonly capability="${SERA_CUDA_CAPABILITY:-90}"
readonly features="${SERA_CUDA_FEATURES:-nccl}"
# CUDA 13.0 is what drivers from 580 on run.
readonly wheels=(
  nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
  nvidia-cuda-nvrtc==13.0.88 nvidia-curand==10.4.0.35 nvidia-cublas==13.0.2.14 nvidia-nccl-cu13==2.27.7
)
readonly toolkit="$folder/toolkit/nvidia/cu13"
readonly program="$folder/target/release/sera-trainer"
# BSD-3-Clause, as the headers of CUTLASS that it carries.
readonly flash_package=flash-attn==2.8.3.post2
readonly flash_digest=d0f9f0b08a986cdeadbffcf5ec8b3a8f514366c68ad1853d3ab061bc83cc340b
# As is_served in trainer/flash/parameters.h and SIZES in trainer/src/ops/flash have them.
readonly flash_sizes=(64 96 128)
readonly flash="$folder/flash"

# One tree that serves as CUDA_HOME, from NVIDIA's own wheels.
make_toolkit() {
  [[ -e "$folder/toolkit/complete" ]] && return
  rm -rf "$folder/toolkit" "$folder/wheels"
  mkdir -p "$folder/wheels"
  python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder/wheels" "${wheels[@]}"
  local wheel library
  for wheel in "$folder"/wheels/*.whl; do
    python3 -m zipfile -e "$wheel" "$folder/toolkit"
  done
  rm -r "$folder/wheels"
  chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*
  mv "$folder"/toolkit/nvidia/nccl/include/* "$toolkit/include/"
  mv "$folder"/toolkit/nvidia/nccl/lib/* "$toolkit/lib/"
  ln -s lib "$toolkit/lib64"
  for library in "$toolkit"/lib/lib*.so.*; do
    ln -sf "$(basename "$library")" "${library%%.so.*}.so"
  done
  # The runtime goes into the program: without it, the program would not even start where there is no GPU.
  rm "$toolkit/lib/libcudart.so"
  echo 'INPUT(libcudart_static.a)' >"$toolkit/lib/libcudart.so"
  touch "$folder/toolkit/complete"
}

with_toolkit() {
  CUDA_HOME="$toolkit" CUDA_PATH="$toolkit" CUDA_COMPUTE_CAP="$capability" PATH="$toolkit/bin:$PATH" LIBRARY_PATH="$toolkit/lib" \
    CARGO_TARGET_DIR="$folder/target" SERA_FLASH_FOLDER="$flash" "$@"
}

# FlashAttention's source package. pip would run its setup, which wants PyTorch, to learn what it is called: in the place of setuptools stands what reads
# that to it from the package, so that nothing of it is run.
fetch_flash() {
  local setuptools="$flash/without-setup/setuptools"
  mkdir -p "$setuptools"
  touch "$setuptools/__init__.py"
  cat >"$setuptools/build_meta.py" <<'PYTHON'
import pathlib, shutil, types


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    place = pathlib.Path(metadata_directory) / "flash_attn.dist-info"
    place.mkdir()
    shutil.copy("PKG-INFO", place / "METADATA")
    return place.name


__legacy__ = types.SimpleNamespace(prepare_metadata_for_build_wheel=prepare_metadata_for_build_wheel)
PYTHON
  echo "$flash_package --hash=sha256:$flash_digest" >"$flash/requirements.txt"
  PYTHONPATH="$flash/without-setup" python3 -m pip download --quiet --no-deps --no-binary=:all: --use-pep517 --no-build-isolation --require-hashes \
    --dest "$flash" --requirement "$flash/requirements.txt"
  mkdir "$flash/source"
  tar --extract --file "$flash"/flash_attn-*.tar.gz --strip-components=1 --directory "$flash/source"
}

# The kernels that are asked for (bf16, causal, forward and backward, heads of those sizes) and our calls of them as one library. No dropout, windows, soft
# caps, ALiBi, or heads of sizes between: what is not asked for is not compiled.
make_flash() {
  local stamp from=$SECONDS
  stamp="$flash_package $flash_digest $capability ${flash_sizes[*]} $(find trainer/flash -type f ! -name '*.rs' -print0 | sort -z | xargs -0 cat | sha256sum)"
  [[ "$(cat "$flash/complete" 2>/dev/null)" == "$stamp" ]] && return
  make_toolkit
  rm -rf "$flash"
  fetch_flash
  local source="$flash/source/csrc"
  mkdir -p "$flash/licences" "$flash/objects"
  cp "$flash/source/LICENSE" "$flash/licences/FlashAttention"
  cat "$flash/source/AUTHORS" >>"$flash/licences/FlashAttention"
  sed -n '/Copyright/,/\*\*\*\//p' "$source/cutlass/include/cutlass/cutlass.h" | sed '$d; s/^ \* \{0,1\}//' >"$flash/licences/CUTLASS"
  grep -q 'Redistribution and use' "$flash/licences/FlashAttention"
  grep -q 'SPDX-License-Identifier: BSD-3-Clause' "$flash/licences/CUTLASS"
  local headers=(-isystem trainer/flash/shims -isystem "$source/flash_attn/src" -isystem "$source/cutlass/include" -isystem "$toolkit/include")
  g++ -std=c++17 -O1 -Wall -Wextra -Werror -fsanitize=address,undefined "${headers[@]}" -o "$flash/parameters_test" \
    trainer/flash/sera_flash.cpp trainer/flash/parameters_test.cpp
  "$flash/parameters_test"
  g++ -c -std=c++17 -O2 -Wall -Wextra -Werror -fPIC "${headers[@]}" -o "$flash/objects/sera_flash.o" trainer/flash/sera_flash.cpp
  local size way
  for size in "${flash_sizes[@]}"; do
    for way in fwd bwd; do echo "flash_${way}_hdim${size}_bf16_causal_sm80"; done
  done | PATH="$toolkit/bin:$PATH" xargs -P "$(nproc)" -I '{}' nvcc -c -O3 -std=c++17 -Xcompiler -fPIC \
    -gencode "arch=compute_$capability,code=[sm_$capability,compute_$capability]" --expt-relaxed-constexpr --expt-extended-lambda --use_fast_math \
    -DFLASHATTENTION_DISABLE_DROPOUT -DFLASHATTENTION_DISABLE_ALIBI -DFLASHATTENTION_DISABLE_SOFTCAP -DFLASHATTENTION_DISABLE_LOCAL \
    -DFLASHATTENTION_DISABLE_UNEVEN_K "${headers[@]}" -o "$flash/objects/{}.o" "$source/flash_attn/src/{}.cu"
  ar rcs "$flash/libsera_flash.a" "$flash"/objects/*.o
  rm -r "$flash/source" "$flash/objects" "$flash/without-setup"
  echo "$stamp" >"$flash/complete"
  echo "FlashAttention built in $((SECONDS - from)) s: $(stat --format %s "$flash/libsera_flash.a") bytes"
}

# candle-core links NVIDIA's libraries, the driver's among them, so that a program would not start without a driver. What it needs is a word in
# its manifest; the sources are copied, since that changes the lock file.
copy_sources() {
  local manifest
  rm -rf "$folder/source" "$folder/candle-core"
  mkdir -p "$folder/source"
  tar --create --exclude=./target --exclude=./.git . | tar --extract --directory "$folder/source"
  cargo fetch --locked
  manifest="$(cargo metadata --locked --offline --format-version 1 |
    python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "candle-core"))')"
  cp -r "$(dirname "$manifest")" "$folder/candle-core"
  sed -i 's/"dynamic-linking"/"dynamic-loading"/' "$folder/candle-core/Cargo.toml"
  grep -q '"dynamic-loading"' "$folder/candle-core/Cargo.toml"
  printf '\n[patch.crates-io]\ncandle-core = { path = "%s" }\n' "$folder/candle-core" >>"$folder/source/Cargo.toml"
}

build() {
  [[ ",$features," != *,flash-attention,* ]] || make_flash
  copy_sources
  local from=$SECONDS
  (cd "$folder/source" && with_toolkit cargo build --release --package sera-trainer --bin sera-trainer --features "$features")
  strip --strip-all --output-file "$folder/sera-trainer" "$program"
  echo "built in $((SECONDS - from)) s: $(stat --format %s "$folder/sera-trainer") bytes"
}

# The lints look at no kernel and link nothing, so that a compiler which only says its version and leaves empty files behind will do. What they compile
# lies in a folder of its own: no build may take those files for kernels.
clippy() {
  local stub="$folder/no-toolkit"
  mkdir -p "$stub/bin" "$stub/include" "$stub/lib64"
  cat >"$stub/bin/nvcc" <<'NVCC'
#!/bin/sh
[ "$1" != --version ] || printf '\n\n\nCuda compilation tools, release 13.0, V13.0.88\n'
while [ $# -gt 0 ]; do
  case "$1" in
    -o) touch "$2" ;;
    --output-directory) folder=$2 ;;
    *.cu) kernel=$(basename "$1" .cu) ;;
  esac
  shift
done
[ -z "$folder" ] || touch "$folder/$kernel.ptx"
NVCC
  chmod +x "$stub/bin/nvcc"
  local feature
  for feature in cuda nccl flash-attention; do
    SERA_FLASH_FOLDER="$stub" CUDA_HOME="$stub" CUDA_PATH="$stub" CUDA_COMPUTE_CAP="$capability" PATH="$stub/bin:$PATH" CARGO_TARGET_DIR="$folder/clippy" \
      cargo clippy --locked --package sera-trainer --all-targets --features "$feature" -- --deny warnings
  done
}

# Under the names that the program and the libraries themselves look for.
libraries() {
  local name
  mkdir -p "$1"
  for name in cublas cublasLt curand nccl; do
    cp --archive "$toolkit/lib/lib$name.so" "$toolkit/lib/lib$name".so.* "$1/"
  done
}

# Those that the binary's users have to be given.
licences() {
  mkdir -p "$1"
  [[ ",$features," != *,flash-attention,* ]] || cp "$flash"/licences/* "$1/"
}

# A student of random weights and one line to train on: enough for a check.
make_inputs() {
  mkdir -p "$1/student" "$1/dataset"
  cp trainer/chat/tests/tiny/{tokenizer.json,tokenizer_config.json,chat_template.jinja} "$1/student"
  python3 - "$1" <<'PYTHON'
import array, json, pathlib, random, sys

random.seed(7)
place = pathlib.Path(sys.argv[1])
config = dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_size=16, num_hidden_layers=1, num_attention_heads=4,
              num_key_value_heads=2, head_dim=6, intermediate_size=24, vocab_size=416, rms_norm_eps=1e-6, rope_theta=10000.0,
              tie_word_embeddings=True, torch_dtype="float32")
shapes = {"model.embed_tokens.weight": (416, 16), "model.norm.weight": (16,)}
block = {"input_layernorm": (16,), "post_attention_layernorm": (16,), "self_attn.q_norm": (6,), "self_attn.k_norm": (6,),
         "self_attn.q_proj": (24, 16), "self_attn.k_proj": (12, 16), "self_attn.v_proj": (12, 16), "self_attn.o_proj": (16, 24),
         "mlp.gate_proj": (24, 16), "mlp.up_proj": (24, 16), "mlp.down_proj": (16, 24)}
shapes.update({f"model.layers.0.{name}.weight": shape for name, shape in block.items()})
header, values = {}, array.array("f")
for name, shape in shapes.items():
    begin, count = 4 * len(values), shape[0] * (shape[1] if len(shape) > 1 else 1)
    values.extend(1.0 if len(shape) == 1 else random.uniform(-0.15, 0.15) for _ in range(count))
    header[name] = dict(dtype="F32", shape=shape, data_offsets=[begin, 4 * len(values)])
text = json.dumps(header).encode()
(place / "student/config.json").write_text(json.dumps(config))
(place / "student/model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + values.tobytes())
messages = [dict(role="user", content="Fix it.", train=False), dict(role="assistant", content="<think>\nNow.\n</think>\n\nDone.", train=True)]
(place / "dataset/train.jsonl").write_text(json.dumps(dict(instance_id="x-1-t1", messages=messages)) + "\n")
PYTHON
}

# What the program says on a machine without a driver: a line and exit 10 where a GPU is asked for, and a check on the CPU where it may choose.
show() {
  local place said status=0
  place="$(mktemp -d)"
  make_inputs "$place"
  check() {
    "$folder/sera-trainer" check --student "$place/student" --dataset "$place/dataset" --out "$place/out" "$@" 2>&1
  }
  said="$(check --device cuda)" || status=$?
  echo "check --device cuda: exit $status: $said"
  [[ "$status" == 10 && "$(wc -l <<<"$said")" == 1 ]]
  said="$(SERA_TRAINING='{"learningRate": "1e-3"}' check --device auto)"
  grep '^device' <<<"$said"
  grep -q '^device *CPU' <<<"$said"
  rm -r "$place"
}

case "${1:-all}" in
  all)
    make_toolkit
    build
    show
    ;;
  toolkit) make_toolkit ;;
  flash) make_flash ;;
  build) build ;;
  show) show ;;
  libraries) libraries "${2:?give a folder}" ;;
  licences) licences "${2:?give a folder}" ;;
  run) with_toolkit "${@:2}" ;;
  clippy) clippy ;;
  *)
    echo "unknown: $1; one of toolkit, flash, build, show, libraries, licences, run, clippy" >&2
    exit 2
    ;;
esac
