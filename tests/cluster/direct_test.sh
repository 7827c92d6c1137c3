#!/bin/bash
# Direct I/O beside the page cache of the same mount: what was written past it is what is read through it next, also by
# those who have the file open and fill pages again while they are being passed (tests/tools/past_pages.c).
. "$(dirname "$0")/lib.sh"

start --osts 2
rounds=$((3 * ${SCALE:-100} * ${TIMES:-1}))
past_pages -n "$rounds" "$T/m/file" || fail "past_pages"
