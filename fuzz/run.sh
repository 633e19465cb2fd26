#!/usr/bin/env bash
# Fuzzes one target for some seconds from its corpus: `fuzz/run.sh TARGET SECONDS`. Findings land in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/targets"

if (($# < 2)); then
    echo "usage: $0 TARGET SECONDS [libFuzzer options]"
    echo "targets:" src/bin/*.rs | sed 's|src/bin/||g; s|\.rs||g'
    exit 1
fi
target=$1 seconds=$2
shift 2

cargo build --release --quiet --bin "$target"
binary=target/x86_64-unknown-linux-gnu/release/$target
corpus=../corpus/$target
artifacts=../artifacts/$target
# New inputs go where they do not touch the committed corpus; FOUND keeps them.
found=${FOUND:-$(mktemp -d)}
[[ -n ${FOUND:-} ]] || trap 'rm -rf "$found"' EXIT
mkdir -p "$corpus" "$artifacts" "$found"
status=0
"$binary" "$found" "$corpus" -max_total_time="$seconds" -max_len="${MAX_LEN:-16384}" -timeout=5 \
    -rss_limit_mb=512 -print_final_stats=1 -artifact_prefix="$artifacts/" "$@" || status=$?
if ((status != 0)); then
    # Wherever the log ends up, the input can be put together again.
    for input in "$artifacts"/*; do
        [[ -s $input ]] && echo "finding: $input" && base64 -w 0 "$input" && echo
    done
fi
exit "$status"
