"""Data sets: folders of pictures as labelled samples, and generated pictures where there are none."""
