"""How much an input may ask for before it is believed: every limit, its reason, and the largest real one known.

A file that asks for more is refused with one line that names the file, what it asks for and the limit.
"""

from __future__ import annotations

MIB = 1 << 20
GIB = 1 << 30

# Streams: a pipe, a device or standard input has no size that could be looked at first.
STREAM_BYTES = 1 * GIB  # the largest model file is 30 MB, the largest photo (100 megapixels, TIFF) 300 MB
PICTURE_BYTES = 640 * MIB  # one picture's file; a 100-megapixel uncompressed TIFF with 16 bits a channel has 600 MB

# JSON from outside. Python's reader recurses at each level, and ends with an exception of its own near 1,000.
JSON_BYTES = 1 * GIB  # COCO's largest file of annotations (train2017) has 448 MB
JSON_DEPTH = 100  # our headers have 6 levels, COCO's files 6, Hugging Face's configurations 4

# A model file's header and the configurations beside weights.
HEADER_BYTES = 16 * MIB  # ImageNet's 1,000 names take 60 KB, ImageNet-21k's 21,843 with their ids 1 MB
STATED_TEXT = 10_000  # characters of one label or name; the longest of ImageNet's synonyms has 126

# An input of the engine. Planning takes 20 ns a pixel of its width, and sums of rows must stay in 64 bits.
ENGINE_SIDE = 100_000  # pixels; the largest published input has 513, DeepLab's largest scale of it 897

# The network that a model file or a checkpoint describes.
BLOCKS = 1_000  # bottlenecks; the paper's network has 17, timm's deepest (120d) 42
CHANNELS = 65_536  # of any tensor; the widest real one has 1,792 (last layer at width 1.4)
EXPANSION = 1_024.0  # the paper's factor is 6; a pruned network's is what its channels make it
WIDTH_MULT = 16.0  # the widest published is 1.4
CLASSES = 100_000  # ImageNet-21k has 21,843
TAPS = 64  # feature maps that a detector reads or adds; SSDLite reads 2 and adds 4
ANCHORS = 1_000  # of one place of a map; SSDLite has 6
ANCHOR_SIDE = 1_000.0  # of an anchor in units of the input's shorter side, and 1 / this the least; SSD's reach 1.6
BOXES = 1_000_000  # that decoding may keep; COCO's rules look at 100
CODER = 1_000_000.0  # scales of a box's coding, and 1 / this the least; TensorFlow's are 10 and 5
RATES = 64  # atrous branches; DeepLab has 3
RATE = 1_024  # atrous rate; DeepLab's largest is 36
# More tensors than the file has are listed only to name one that is missing; that costs 3 us a tensor.
SPARE_TENSORS = 1_000  # the default network has 262

# How pictures become its input, whose pixels are 0 to 255. Normalised values stay below 1e12, far within float32.
SIDE = 8_192  # of the input; DeepLab on Cityscapes has 2,049
RESIZE_TO = 10_000  # of the shortest side before the crop; torchvision's rule makes 9,362 of the largest input
MEAN = 1_000_000.0  # published ones lie within 0 to 255
STD = 1_000_000.0  # and 1 / this the least; published ones lie within 1 to 255
LEAST_FRACTION = 1e-4  # of a side that the central crop keeps: a pixel of the largest input; TF-Slim's is 0.875

# Other libraries' checkpoints: what they declare against what they store.
CHECKPOINT_BYTES = 4 * GIB  # one file; a DeepLab checkpoint with its optimiser's state has 100 MB
TENSORS = 20_000  # named in one file; a checkpoint of the deepest network with its averages and optimiser has 3,000
DIRECTORY_BYTES = 4 * MIB  # a zip archive's directory; the 3,000 members of such a checkpoint take 400 KB
UNPACKED_RATIO = 100  # of unpacked bytes to the file's; weights shrink by a fifth, batch norm's zeros a thousandfold
UNPACKED_SPARE = 16 * MIB  # that any file may unpack to; the smallest network has 2 MB
UNPACKED_BYTES = 1 * GIB  # of all arrays; a detector has 20 MB
NPY_HEADER_CHARACTERS = 10_000  # of one array in an npz; NumPy writes 118
GROUPS = 64  # that lie inside each other in an HDF5 file; Keras's nest 6 deep
GRAPH_BYTES = 64 * MIB  # of a graph as text (ncnn's .param), of a label file; real ones have 30 KB
OPERATORS = 20_000  # of a graph, and its tensors; real ones have hundreds

# Data sets.
LIST_BYTES = 256 * MIB  # a text file of paths, with labels or without; ImageNet's 1.28 million take 60 MB
NAMES_BYTES = 16 * MIB  # names of classes, or a picture's text file of boxes; ImageNet-21k's names take 1 MB
XML_BYTES = 64 * MIB  # one picture's boxes; VOC's largest has 20 KB
YAML_BYTES = 1 * MIB  # a data.yaml, read at 1 MB/s; with LVIS's 1,203 names it has 30 KB
YAML_VALUES = 200_000  # of a data.yaml, aliases followed; ImageNet-21k's names are 21,843
LISTED_CLASSES = 100_000  # of a data set; ImageNet-21k has 21,843
OUTLINE_LENGTH = 4_000_000  # pixels around one object of COCO's, drawn with 5 points each; a real one has thousands
OUTLINED_PIXELS = 10_000_000_000  # of all objects of a picture together, 2 s to paint; COCO's have under 30 million
RUN_LETTERS = 5_000_000  # of one object's compressed run lengths, 0.3 us each; real ones have under 100,000
STATED_SIDE = 10**9  # that an annotation may state of its picture; more is taken for this, and is no picture's
TAR_HEADERS = 64  # long names and attributes before one member of a tar; writers put at most 3
TAR_HEADER_BYTES = 1 * MIB  # of one of them; a path has at most 4,096

# Pictures. The peak while one is read is estimated from its header by format and mode; see docs/data.md.
PICTURE_MEMORY = 1 * GIB  # to decode one; 108 megapixels (12,000 x 9,000, telephones) take 0.86 GB as JPEG
PICTURE_PIXELS = 130_000_000  # that are decoded: as RGB they take 1.04 GB where EXIF turns them; telephones have 108
REDUCED_PIXELS = 500_000_000  # of a JPEG that is decoded at 1/2, 1/4 or 1/8; telephones have 200, a camera's 400
PICTURE_SIDE = 1_000_000  # JPEG's longest side is 65,535, WebP's 16,383; each row takes a pointer and 100 ns
SLOW_PIXELS = 8_000_000  # of PPM and BMP files that Pillow decodes in Python, 1 to 2 s a megapixel
JPEG2000_PIXELS = 25_000_000  # 10 s at the slowest measured, noise without loss; a film's frame has 8.8
JPEG_SCANS = 100  # cameras write 1, encoders of progressive JPEGs about 10, jpegtran's longest scripts some 50
TIFF_ENTRIES = 4_096  # of a directory; real ones have under 100
TIFF_PIECES = 262_144  # strips or tiles, each an object in Python; one of 16 x 16 for 67 megapixels
RESIZED_PIXELS = 64_000_000  # before the crop, and between the two directions of resizing; 2,049 x 2,732 are 6
