"""What generated code and its callers agree on."""

from __future__ import annotations

ENTRY = "run"
# run(image, weights, arena, logits, team, is_bytes, thread, threads)
POINTERS = ("image", "weights", "arena", "logits", "team")
NUMBERS = ("is_bytes", "thread", "threads")

# The team's memory, in 64-bit words: who has arrived, which barrier it is, whether a member has left so that nobody may
# wait any more, and the address of C's usleep. The first two are written by all threads and lie on cache lines of
# their own.
ARRIVED, GENERATION, LEFT, USLEEP, TEAM_WORDS = 0, 8, 16, 17, 24
