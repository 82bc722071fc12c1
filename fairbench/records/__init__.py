"""Everything on disk: what finished runs leave, written whole and read without torch."""

MAX_CLASSES = 1 << 16  # labels are stored in 16 bits
