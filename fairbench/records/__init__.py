"""Everything on disk: what finished runs leave, written whole and read without torch."""
