#!/usr/bin/env bash
# What each program was made of, as CycloneDX: a file a program, with every crate, its version, licence and checksum.
#
#   images/sbom.sh FOLDER      FOLDER is made; what lies there under the same names is replaced
#
# The programs of images that are built from source carry the same list themselves (cargo-auditable), for scanners that look at an image alone.
set -euo pipefail

[[ $# == 1 ]] || { echo "usage: images/sbom.sh FOLDER" >&2; exit 64; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly out programs=(operator/sera-operator images/rollout/sera-rollout images/sandbox/sera-sandbox images/teacher/sera-teacher trainer/sera-trainer)
readonly version=0.5.9

if [[ $(cargo cyclonedx --version 2>/dev/null) != "cargo-cyclonedx-cyclonedx $version" ]]; then
  cargo install --quiet --locked "cargo-cyclonedx@$version"
fi

# It writes beside each Cargo.toml, and nowhere else.
trap 'find . -path ./target -prune -o -name "*_bin.cdx.json" -exec rm {} +' EXIT
cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries
for program in "${programs[@]}"; do
  cp "${program}_bin.cdx.json" "$out/$(basename "$program").cdx.json"
done
ls "$out"/*.cdx.json
