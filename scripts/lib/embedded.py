"""Vectors of texts from a server's embedder, kept in a file so that no text is given to
it twice, for `scripts/bench memory retrieval`."""

import hashlib
import pathlib
import sys
import time

import numpy

BATCH = 16
KEPT = 10  # batches between two writes, so that a run that is cut goes on there


class Progress:
    """How far something is and how long it takes, on standard error."""

    def __init__(self, what):
        self.what, self.shown = what, 0.0

    def show(self, done, of, left_s=None):
        now = time.monotonic()
        if now - self.shown < (1 if sys.stderr.isatty() else 20):
            return
        self.shown = now
        left = "" if left_s is None else f", {left_s:.0f} s left"
        print(f"{self.what}: {done} of {of}{left}", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


class Embedded:
    def __init__(self, path: pathlib.Path, ask):
        """`ask` gives the vectors of a list of texts."""
        self.path, self.ask, self.known = path, ask, {}
        if path.exists():
            with numpy.load(path) as kept:
                self.known = {bytes(digest): vector for digest, vector in zip(kept["digests"], kept["vectors"])}

    def of(self, texts, what):
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        new = {digest: text for digest, text in zip(digests, texts) if digest not in self.known}
        waiting, progress, began = list(new.items()), Progress(what), time.monotonic()
        for at in range(0, len(waiting), BATCH):
            batch = waiting[at:at + BATCH]
            vectors = self.ask([text for _, text in batch])
            self.known |= {digest: numpy.array(vector, "f4") for (digest, _), vector in zip(batch, vectors)}
            done = at + len(batch)
            progress.show(done, len(waiting), (time.monotonic() - began) / done * (len(waiting) - done))
            if (at // BATCH) % KEPT == 0 or done == len(waiting):
                self.keep()
        return numpy.array([self.known[digest] for digest in digests], "f4")

    def keep(self):
        digests = numpy.array([numpy.frombuffer(digest, "u1") for digest in self.known])
        beside = self.path.with_suffix(".new.npz")
        numpy.savez(beside, digests=digests, vectors=numpy.array(list(self.known.values())))
        beside.rename(self.path)
