# What the scripts of the gate share. Sourced, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Versions are pinned: a gate that changes by itself tells nothing.
export MSRV=1.89.0
export NIGHTLY=nightly-2026-05-20
export CARGO_FUZZ=0.13.2
export CARGO_DENY=0.20.2
export BORINGTUN_CLI=0.7.1

# Tools that take minutes to build outlive one run.
export TOOLS="${XDG_CACHE_HOME:-$HOME/.cache}/quietwire-ci"
export PATH="$TOOLS/bin:$PATH"
export CARGO_TERM_COLOR=never

TIMES=()

# step NAME COMMAND...: prints a heading, runs the command and notes how long it took.
step() {
    local name=$1 start=$SECONDS
    shift
    printf '\n=== %s\n' "$name"
    "$@"
    local took=$((SECONDS - start))
    TIMES+=("$(printf '%5d s  %s' "$took" "$name")")
    printf -- '--- %s: %d s\n' "$name" "$took"
}

# Prints the times of all steps that have finished.
print_times() {
    printf '\n=== times\n'
    printf '%s\n' "${TIMES[@]}"
    printf '%5d s  in all\n' "$SECONDS"
}
