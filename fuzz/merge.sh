#!/usr/bin/env bash
# Makes the smallest corpus that covers what the old one and a folder of new inputs cover: `fuzz/merge.sh TARGET DIR`.
set -euo pipefail
(($# == 2)) || { echo "usage: $0 TARGET DIR"; exit 1; }
new=$(realpath "$2")
cd "$(dirname "$0")/targets"
cargo build --release --quiet --bin "$1"
merged=$(mktemp -d)
trap 'rm -rf "$merged"' EXIT
mkdir -p "../corpus/$1"
"target/x86_64-unknown-linux-gnu/release/$1" -merge=1 -max_len="${MAX_LEN:-16384}" "$merged" "../corpus/$1" "$new"
rm -rf "../corpus/$1"
cp -r "$merged" "../corpus/$1"
du -sh "../corpus/$1"
find "../corpus/$1" -type f | wc -l
