#!/usr/bin/env bash
# Plants each mistake of this directory in turn and demands that its target finds it from the committed corpus.
# Usage: run.sh [number…]   SECONDS_EACH=60 bounds a run in CPU seconds, CARGO=… chooses another cargo.
# The tree must have no uncommitted changes.
#
# Inputs of the corpus that meet the mistake at once are counted and put aside, and the target searches without them:
# that part is told and decides nothing, unless there were no such inputs.
set -u
cd "$(git rev-parse --show-toplevel)" || exit 2
limit=${SECONDS_EACH:-60}
cargo=${CARGO:-cargo}
scratch=$(mktemp -d)
applied=
undo() { [[ -n $applied ]] && git apply -R "$applied"; applied=; }
trap 'undo; rm -rf "$scratch"' EXIT
trap 'exit 3' INT TERM
git diff --quiet || { echo "the tree has uncommitted changes" >&2; exit 2; }

# Puts inputs that meet the mistake at once aside. Prints how many there were.
set_seeds_aside() {
    local binary=$1 seeds=$2 log=$scratch/seeds.log input aside=0
    while ! "$binary" -timeout=5 -artifact_prefix="$scratch/" "$seeds"/* >"$log" 2>&1; do
        input=$(sed -n 's/^Running: //p' "$log" | tail -n 1)
        [[ -f $input ]] || { tail -n 20 "$log" >&2; return 1; }
        rm "$input"
        aside=$((aside + 1))
    done
    echo "$aside"
}

# Fuzzes for $limit CPU seconds, on a busy machine for at most four times as long: $took says how many it took.
search() {
    local binary=$1 seeds=$2 log=$3 new
    new=$(mktemp -d -p "$scratch")
    TIMEFORMAT='%U %S'
    {
        # shellcheck disable=SC2016
        time bash -c 'ulimit -t "$1"; shift; exec "$@"' bash "$limit" "$binary" "$new" "$seeds" \
            -max_total_time=$((limit * 4)) -max_len=16384 -timeout=5 -rss_limit_mb=512 \
            -artifact_prefix="$scratch/" -print_final_stats=1 >"$log" 2>&1
    } 2>"$scratch/took"
    took=$(tail -n 1 "$scratch/took" | awk '{ printf "%.1f", $1 + $2 }')
    grep -q "panicked at" "$log"
}

found=0 missed=0
for patch in fuzz/planted/*.patch; do
    name=$(basename "$patch" .patch)
    if (($# > 0)) && ! printf '%s\n' "$@" | grep -qx "${name%%-*}"; then continue; fi
    target=$(sed -n 's/^Target: //p' "$patch")
    git apply "$patch" || { echo "STALE  $name: the patch does not apply"; missed=$((missed + 1)); continue; }
    applied=$patch
    # shellcheck disable=SC2086
    (cd fuzz/targets && $cargo build --release --quiet --bin "$target") || exit 2
    binary=$scratch/$target
    cp "fuzz/targets/target/x86_64-unknown-linux-gnu/release/$target" "$binary"
    undo
    log=$scratch/$name.log
    if search "$binary" "fuzz/corpus/$target" "$log"; then
        echo "found  $name by $target after $took CPU s"
        grep -m 1 -A 1 "panicked at" "$log" | cut -c 1-160 | sed 's/^/           /'
        found=$((found + 1))
    else
        echo "MISSED $name by $target in $took CPU s"
        grep "^stat::" "$log" || tail -n 3 "$log"
        missed=$((missed + 1))
        continue
    fi
    seeds=$scratch/seeds-$name
    cp -r "fuzz/corpus/$target" "$seeds"
    aside=$(set_seeds_aside "$binary" "$seeds") || exit 2
    ((aside == 0)) && continue
    if search "$binary" "$seeds" "$log"; then
        echo "       without the $aside inputs that meet it at once: found after $took CPU s"
    else
        echo "       without the $aside inputs that meet it at once: not found in $took CPU s"
    fi
done
echo "$found planted mistakes found, $missed missed"
((missed == 0 && found > 0))
