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


# The table that stands in the place of weights where a mask is made (`kernels.mask`), words first. HEIGHT x WIDTH: the
# mask. From word LINES on, two for each of its rows: the float32 elements at which the two rows of the map begin that
# it lies between. From word RUNS on, three for each of RUN_COUNT runs of columns between the same two of the map: the
# element at which the first of those begins in its row, the run's first column, its columns. From float32 element
# ROW_PARTS and COLUMN_PARTS on: how far each row or column is from the first of the two that it lies between.
HEIGHT, WIDTH, RUN_COUNT, LINES, RUNS, ROW_PARTS, COLUMN_PARTS, HEADER = range(8)
MOST_LANES = 16  # parts of columns are read so far beyond the last one


def mask_scratch(width: int, classes: int) -> int:
    """float32 elements that a thread needs: a row of the map, its differences, and a vector of labels."""
    return 2 * width * classes + MOST_LANES


# The table for a mask made of several looks (`kernels.average`), words first. HEIGHT x WIDTH: the mask. LOOKS, and the
# CLASSES of all of them. Elements from one class to the next of a row of scores; those of the longest row of a map,
# and of a thread's scratch memory, all three whole vectors of `MOST_LANES`.
_, _, LOOKS, CLASSES, STRIDE, LINE_SPACE, SCRATCH, AVERAGE_HEADER = range(8)
# Then for each look: the word at which its own table as above begins, what stands there counted from there, its lines
# from its map; the float32 element at which the map begins; the mask's row and column at which its part begins; the
# elements of a row of the map.
LOOK_TABLE, LOOK_MAP, LOOK_TOP, LOOK_LEFT, LOOK_LINE, LOOK_WORDS = range(6)
