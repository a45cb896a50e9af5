"""What generated code and its callers agree on."""

from __future__ import annotations

# run(image, weights, arena, logits, team, is_bytes, thread, threads): one thread's part of one image
ENTRY = "run"
POINTERS = ("image", "weights", "arena", "logits", "team")
NUMBERS = ("is_bytes", "thread", "threads")
# lead(team, threads): what the slots say, on all threads, this one being number 0; returns when all have done it
# serve(team, thread, threads): the life of another thread, until its slot says to end
LEAD, SERVE = "lead", "serve"

# A team's memory, in 64-bit words; what several threads write lies on cache lines of its own. Who has arrived at a
# barrier, and which barrier it is; how often the team was called; the C functions usleep, read and write; the two ends
# of the pipe where sleeping threads wait.
ARRIVED, GENERATION, CALLS, USLEEP, READ, WRITE, READ_END, WRITE_END = 0, 8, 16, 24, 25, 26, 27, 28
# Then a slot for each thread: the arguments of `run`, threads = 0 meaning the end; whether the thread sleeps, and the
# last call that it has seen.
SLOTS, SLOT_WORDS = 40, 24
IS_BYTES, THREAD, THREADS, ASLEEP, SEEN, SPARE = 5, 6, 7, 8, 16, 17


def team_words(threads: int) -> int:
    """Words of a team's memory."""
    return SLOTS + SLOT_WORDS * threads
