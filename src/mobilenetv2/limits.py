"""How much an input may ask for before it is believed: every limit, its reason, and the largest real one known.

A file that asks for more is refused with one line that names the file, what it asks for and the limit.
"""

from __future__ import annotations

MIB = 1 << 20
GIB = 1 << 30

# Streams: a pipe, a device or standard input has no size that could be looked at first.
STREAM_BYTES = 1 * GIB  # the largest model file is 30 MB, the largest photo (100 megapixels, TIFF) 300 MB
PICTURE_BYTES = 1 * GIB  # one picture's file; a 100-megapixel uncompressed TIFF with 16 bits a channel has 600 MB

# JSON from outside. Python's reader recurses at each level, and ends with an exception of its own near 1,000.
JSON_DEPTH = 100  # our headers have 6 levels, COCO's files 6, Hugging Face's configurations 4

# An input of the engine. Planning takes 20 ns a pixel of its width, and sums of rows must stay in 64 bits.
SIDE = 100_000  # pixels; the largest published input has 513, DeepLab's largest scale of it 897

# The network that a model file or a checkpoint describes.
BLOCKS = 1_000  # bottlenecks; the paper's network has 17, timm's deepest (120d) 42
CHANNELS = 65_536  # of any tensor; the widest real one: 1,792 (last layer at width 1.4), Hugging Face's tests 1,280
EXPANSION = 64.0  # the paper's factor is 6; 16 is used in section 5's measurements
TENSORS = 20_000  # of one network; DeepLab on the deepest has about 700
CLASSES = 100_000  # ImageNet-21k has 21,843
MAPS = 64  # feature maps that a detector reads; SSDLite reads 6
ANCHORS = 1_000  # of one place of a map; SSDLite has 6
RATE = 1_024  # atrous rate; DeepLab's largest is 36
STATED_TEXT = 10_000  # characters of one label or name; the longest of ImageNet's synonyms has 126
