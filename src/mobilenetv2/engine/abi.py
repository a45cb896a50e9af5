"""What generated code and its callers agree on."""

from __future__ import annotations

# run(image, weights, arena, outputs, team, is_bytes, thread, threads): one thread's part of one image
ENTRY = "run"
POINTERS = ("image", "weights", "arena", "outputs", "team")
NUMBERS = ("is_bytes", "thread", "threads")
# of a team (`kernels.team`), each with the arguments (team, thread)
LEAD, PART, SERVE = "lead", "part", "serve"

# A team's memory, in 64-bit words; what several threads write lies on cache lines of its own. Who has arrived at a
# barrier, and which barrier it is; the next image of a job; whether a member has left, so that nobody may wait any
# more; the address of C's usleep; how many members must be woken.
ARRIVED, GENERATION, NEXT, LEFT, USLEEP, AWAY = 0, 8, 16, 24, 25, 26
# The job: how many members work on it, what `run` takes, and the number of images, each of which one member runs by
# itself; with 0 all of them run one image together. Bytes from one image, and its outputs, to the next.
MEMBERS, IMAGE, WEIGHTS, OUTPUTS, IS_BYTES, COUNT, IMAGE_BYTES, OUTPUTS_BYTES = range(32, 40)
# Then for each member: its state, its arena, and whether it must be woken.
SLOTS, SLOT_WORDS = 40, 8
STATE, ARENA, ASLEEP = 0, 1, 2
SLEEPS, WAITS, CALLED = 0, 1, 2  # states


def team_words(threads: int) -> int:
    """Words of a team's memory."""
    return SLOTS + SLOT_WORDS * threads
