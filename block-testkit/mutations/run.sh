#!/usr/bin/env bash
# Makes each deliberate mistake of this directory in turn and demands that the test it names fails, with the words
# after "Says:" where a patch has them.
# Usage: run.sh [number…]        those; all without a number
#        run.sh --within SECONDS  as many as begin in that time, in an order that the commit's hash decides
# CARGO=… chooses another cargo. The tree must have no uncommitted changes.
set -u
cd "$(git rev-parse --show-toplevel)" || exit 2
here=block-testkit/mutations
cargo=${CARGO:-cargo}
log=$(mktemp)
applied=
undo() { [ -n "$applied" ] && git apply -R "$applied"; applied=; }
trap 'undo; rm -f "$log"' EXIT
trap 'exit 3' INT TERM
git diff --quiet || { echo "the tree has uncommitted changes" >&2; exit 2; }

all=("$here"/*.patch)
patches=("${all[@]}")
seconds=
if [ "${1-}" = --within ]; then
    seconds=$2
    commit=$(git rev-parse HEAD)
    # Each commit tries others first, so that all are tried in a few.
    mapfile -t patches < <(for patch in "${all[@]}"; do
        printf '%s %s\n' "$(printf '%s %s' "$commit" "$patch" | sha256sum | cut -d' ' -f1)" "$patch"
    done | sort | cut -d' ' -f2)
elif [ $# -gt 0 ]; then
    patches=()
    for number; do patches+=("$here/$number"-*.patch); done
fi

missed=0 caught=0
for patch in "${patches[@]}"; do
    if [ -n "$seconds" ] && [ $SECONDS -ge "$seconds" ]; then break; fi
    name=$(basename "$patch" .patch)
    test=$(sed -n 's/^Test: //p' "$patch")
    says=$(sed -n 's/^Says: //p' "$patch")
    if ! git apply "$patch"; then
        echo "STALE     $name: the patch does not apply"; missed=$((missed + 1)); continue
    fi
    applied=$patch
    # shellcheck disable=SC2086
    $cargo test $test >"$log" 2>&1
    undo
    if grep -q '^test result: FAILED' "$log" && ! grep -qF -- "$says" "$log"; then
        echo "OTHERWISE $name: '$test' fails without '$says'"; missed=$((missed + 1))
    elif grep -q '^test result: FAILED' "$log"; then
        echo "caught    $name by $(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | tr '\n' ' ')"; caught=$((caught + 1))
    elif grep -q '^test result: ok' "$log"; then
        echo "SURVIVED  $name: '$test' passes"; missed=$((missed + 1))
    else
        echo "NO TEST   $name:"; tail -5 "$log"; missed=$((missed + 1))
    fi
done
echo "$caught of ${#all[@]} mistakes caught, $missed missed"
[ "$missed" -eq 0 ] && [ "$caught" -gt 0 ]
