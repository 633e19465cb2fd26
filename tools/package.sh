#!/usr/bin/env bash
# Makes what a package holds besides the program: manual pages and completions, in target/package.
# Then `cargo deb -p block-img` makes the Debian package.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release -p block-img
program=target/release/block-img
package=target/package
mkdir -p "$package/completions"
"$program" man "$package/man"
"$program" completions bash >"$package/completions/block-img"
"$program" completions zsh >"$package/completions/_block-img"
"$program" completions fish >"$package/completions/block-img.fish"
