"""An evaluation that is interrupted behind a finished block."""

from fairbench.evaluation.journal import Journal


def stop_after(blocks, monkeypatch):
    """Interrupt once, behind so many blocks; the keys of all that are written, as they come."""
    written = []
    write = Journal.write

    def stop(self, key, *content):
        write(self, key, *content)
        written.append(key)
        if len(written) == blocks:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "write", stop)
    return written
