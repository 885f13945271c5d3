#!/usr/bin/env bash
# models.sh: the protocols under the model checkers, as crates/shm/tests/model_*.rs states them. loom tries every
# interleaving (up to a number of preemptions) of two or three participants; shuttle tries random schedules of larger
# scenes, and prints the seed of one that fails. A model says by its #![cfg(...)] which checker it is for.
source "$(dirname "$0")/common.sh"

# Two preemptions find nearly all kinds of faults and end in minutes; more is for by hand.
export LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-2}

run=0
for checker in loom shuttle; do
    tests=()
    for file in $(grep -l "^#!\[cfg(breakeven_$checker)\]" crates/shm/tests/model_*.rs 2>/dev/null); do
        tests+=(--test "$(basename "$file" .rs)")
    done
    if [ ${#tests[@]} -eq 0 ]; then
        say "$checker: there are no models for it"
        continue
    fi
    run=$((run + ${#tests[@]} / 2))
    say "$checker: ${tests[*]//--test/}"
    # A target directory of its own: the cfg is a flag of the whole build and would throw away the ordinary one.
    RUSTFLAGS="--cfg breakeven_$checker ${RUSTFLAGS:-}" \
        cargo test --package breakeven-shm --profile model --target-dir "target/$checker" "${tests[@]}"
done
[ "$run" -gt 0 ] || { echo "no models were found, so nothing was checked" >&2; exit 1; }
