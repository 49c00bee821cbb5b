"""Data sets: a reader each, the records that every reader gives, packs of their images, and batches."""
