"""Retrieval on packages whose doc comments are taken away and asked for, for
`scripts/bench memory retrieval`: Stoker's search against fixed chunks of 40 lines in FAISS,
with the same embedder, and in plain FTS5, and against words and meaning alone.

A question is the first paragraph of what was said of a function; it is answered by
the chunks that hold the function. All packages of a part are searched at once.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request

import faiss
import numpy

from corpora import corpus
from embedded import Embedded, Progress

LINES, OVERLAP = 40, 10  # of a fixed chunk
LISTED = 50  # hits of one search
HITS = 10
BUDGET = 2000 * 4  # characters that stand for 2,000 tokens
OURS, FAISS, FTS = "stoker", "faiss, 40 lines", "plain FTS5, 40 lines"
WORDS, MEANING = "stoker, words alone", "stoker, meaning alone"
BETTER = "the better of these two"  # chosen by who knows the answer: what mixing them could reach
MRR_GOALS = {FAISS: 1.4, FTS: 1.25}
R5_GOAL, LINES_GOAL, BELOW_GOAL = 0.75, 0.80, 0.01
DRAWS, SEED = 2000, 1
# What decides what stands in an index beside the texts themselves.
DECIDING = ["supervisor/indexer/src", "supervisor/src/index/words.rs", "supervisor/src/store/code/writing.rs", "supervisor/migrations/code"]


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench memory retrieval")
    parser.add_argument("--stoker", required=True)
    parser.add_argument("--builder", required=True)
    parser.add_argument("--root", required=True, type=pathlib.Path, help="this repository")
    parser.add_argument("--cache", required=True, type=pathlib.Path)
    parser.add_argument("--part", choices=["tune", "report"], default="report")
    parser.add_argument("--questions", type=int, default=100, help="of each package at most")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    return parser.parse_args()


class Server:
    """A Stoker of its own, with one repository."""

    def __init__(self, stoker, directory, repository):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        config = directory / "stoker.toml"
        config.write_text(f'[index]\nperiod_s = 86400\n[[repository]]\nname = "all"\npath = "{repository}"\n')
        self.log = open(directory / "log", "w")
        self.process = subprocess.Popen(
            [stoker, "serve", "--config", config, "--state-dir", directory / "state", "--listen", self.address],
            stderr=self.log)

    def ask(self, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://{self.address}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def ready(self):
        """Waits until each text has its vector."""
        progress = Progress("texts that have a vector")
        while True:
            if self.process.poll() is not None:
                sys.exit(f"stoker ended; its journal is {self.log.name}")
            try:
                said = self.ask("/api/repositories")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
                continue
            state = said["repositories"] and said["repositories"][0]["state"]
            vectors = said["vectors"] or {"state": None, "made": 0, "left": 0, "left_s": None}
            if state == "failed":
                sys.exit(f"indexing failed: {said['repositories'][0]['reason']}")
            if state == "indexed" and vectors["state"] == "made" and vectors["made"]:
                return vectors["made"]
            progress.show(vectors["made"], vectors["made"] + vectors["left"], vectors["left_s"])
            time.sleep(0.5)

    def vectors(self, texts):
        return self.ask("/api/embed", {"model": "default", "input": texts})["embeddings"]

    def search(self, text):
        while True:
            found = self.ask("/v1/search", {"query": text, "limit": LISTED})
            if found["words_only"] is None:
                return found["data"], found["took_ms"]
            # Somebody else has the processor: the question's vector took too long.
            time.sleep(0.2)

    def close(self):
        self.process.terminate()
        self.process.wait()


def directory_of(options, texts):
    """Where what was made of these texts is kept; that of others is removed."""
    key = hashlib.sha256()
    inside = [path for name in DECIDING for path in [options.root / name, *sorted((options.root / name).rglob("*"))]]
    for path in [*inside, *sorted(texts.rglob("*"))]:
        if path.is_file():
            key.update(str(path).encode() + b"\0" + path.read_bytes())
    directory = options.cache / f"{options.part}-{key.hexdigest()[:16]}"
    for other in options.cache.glob(f"{options.part}-*"):
        if other != directory:
            shutil.rmtree(other)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def fixed(directory):
    chunks = []
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        lines = path.read_text().split("\n")
        for first in range(0, max(1, len(lines) - OVERLAP), LINES - OVERLAP):
            part = lines[first:first + LINES]
            chunks.append((str(path.relative_to(directory)), first + 1, first + len(part), "\n".join(part)))
    return chunks


def plain_fts(chunks):
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE t USING fts5 (text)")
    database.executemany("INSERT INTO t (rowid, text) VALUES (?, ?)", [(at, chunk[3]) for at, chunk in enumerate(chunks)])

    def search(text):
        words = {word for word in "".join(char if char.isalnum() else " " for char in text).split()}
        query = " OR ".join(f'"{word}"' for word in sorted(words))
        rows = database.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY rank LIMIT ?", (query, LISTED))
        return [chunks[row[0]] for row in rows]

    return search


def by(hits, score):
    """The hits that have a score, in its order."""
    return sorted((hit for hit in hits if hit[score] is not None), key=lambda hit: -hit[score])


def placed(hits):
    return [(hit["path"], hit["first_line"], hit["last_line"], hit["text"]) for hit in hits]


def scores(found, question):
    """Reciprocal rank among the first ten, whether among the first five, and which
    share of the function's lines stands in the 2,000 tokens that a prompt takes of it;
    what does not fit is passed over, as in a chat."""
    rank = next((at for at, (where, begin, end, _) in enumerate(found[:HITS], 1)
                 if where == question.path and begin <= question.first <= end), None)
    room, seen = BUDGET, set()
    for where, begin, end, text in found:
        if len(text) <= room:
            room -= len(text)
            if where == question.path:
                seen |= set(range(max(begin, question.first), min(end, question.last) + 1))
    return (1 / rank if rank else 0.0, float(rank is not None and rank <= 5), len(seen) / (question.last - question.first + 1))


def measure(server, embedded, index, fts, chunks, questions):
    sides = {side: [] for side in (OURS, WORDS, MEANING, FAISS, FTS)}
    took = []
    vectors = embedded.of([question.text for question in questions], "questions embedded")
    progress = Progress("questions asked")
    for at, (question, vector) in enumerate(zip(questions, vectors)):
        progress.show(at, len(questions))
        hits, ms = server.search(question.text)
        took.append(ms)
        _, near = index.search(vector[None], LISTED)
        found = {
            OURS: placed(hits),
            WORDS: placed(by(hits, "words")),
            MEANING: placed(by(hits, "meaning")),
            FAISS: [chunks[at] for at in near[0] if at >= 0],
            FTS: fts(question.text),
        }
        for side, rows in sides.items():
            rows.append(scores(found[side], question))
    sides = {side: numpy.array(rows) for side, rows in sides.items()}
    return sides | {BETTER: numpy.maximum(sides[WORDS], sides[MEANING])}, took


def judged(sides, questions):
    """All figures of one kind of question."""
    draw = numpy.random.default_rng(SEED).integers(0, len(questions), (DRAWS, len(questions)))
    mean = {side: rows.mean(0).round(4).tolist() for side, rows in sides.items()}
    against = {}
    for side, goal in MRR_GOALS.items():
        ours, theirs = sides[OURS][:, 0], sides[side][:, 0]
        ratios = ours[draw].mean(1) / numpy.maximum(theirs[draw].mean(1), 1e-9)
        low, high = numpy.percentile(ratios, [2.5, 97.5])
        against[side] = {"times": ours.mean() / max(theirs.mean(), 1e-9), "low": low, "high": high, "goal": goal}
    splits = {}
    for language in sorted({question.language for question in questions}):
        of = [at for at, question in enumerate(questions) if question.language == language]
        splits[language] = {"questions": len(of)} | {side: rows[of].mean(0).round(4).tolist() for side, rows in sides.items()}
    below = max(max(split[WORDS][0], split[MEANING][0]) - split[OURS][0] for split in splits.values())
    return {"questions": len(questions), "mean": mean, "against": against, "splits": splits, "below_single": below}


def show(title, figures):
    goal = lambda met: "met" if met else "missed"
    print(f"{title}: {figures['questions']} questions")
    print(f"  {'':24}  MRR@10    R@5  lines in 2k tokens   MRR@10 of " + ", ".join(figures["splits"]))
    for side, (mrr, five, lines) in figures["mean"].items():
        splits = "  ".join(f"{split[side][0]:.3f}" for split in figures["splits"].values())
        print(f"  {side:24}  {mrr:6.3f}  {five:5.3f}  {lines:6.3f}               {splits}")
    for side, ratio in figures["against"].items():
        print(f"  MRR@10 is {ratio['times']:.2f} times that of {side} (95 %: {ratio['low']:.2f} to {ratio['high']:.2f})"
              f"   goal {ratio['goal']}: {goal(ratio['times'] >= ratio['goal'])}")
    _, five, lines = figures["mean"][OURS]
    print(f"  R@5 goal {R5_GOAL}: {goal(five >= R5_GOAL)}; lines goal {LINES_GOAL:.2f}: {goal(lines >= LINES_GOAL)}; "
          f"below the better of words and meaning by {max(figures['below_single'], 0):.3f} at most, goal {BELOW_GOAL}: {goal(figures['below_single'] <= BELOW_GOAL)}")


def main():
    options = arguments()
    texts = options.cache / "texts" / options.part
    shutil.rmtree(texts, ignore_errors=True)
    questions = corpus(options.part, options.cache / "packages", texts, options.questions)
    directory = directory_of(options, texts)
    subprocess.run([options.builder, "build", "all-minilm-l6-v2", "--state-dir", directory / "state"], check=True, stdout=sys.stderr)
    server = Server(options.stoker, directory, texts)
    try:
        made = server.ready()
        embedded = Embedded(directory / "vectors.npz", server.vectors)
        chunks = fixed(texts)
        index = faiss.IndexFlatIP(384)
        index.add(embedded.of([chunk[3] for chunk in chunks], "chunks of 40 lines embedded"))
        fts = plain_fts(chunks)
        result = {"part": options.part, "texts": made, "chunks_of_40_lines": len(chunks)}
        kinds = {"as asked": questions, "without the function's name": [question.without_name() for question in questions]}
        for kind, asked in kinds.items():
            asked = [question for question in asked if question.text]
            sides, took = measure(server, embedded, index, fts, chunks, asked)
            took_ms = {str(share): float(numpy.percentile(took, share)) for share in (50, 95)}
            result[kind] = judged(sides, asked) | {"took_ms": took_ms}
    finally:
        server.close()
    if options.format == "json":
        json.dump(result, sys.stdout, indent=1)
        print()
        return
    print(f"{options.part}: {made} texts of ours, {len(chunks)} chunks of 40 lines")
    for kind in kinds:
        show(kind, result[kind])
        took = result[kind]["took_ms"]
        print(f"  a search took {took['50']:.0f} ms, p95 {took['95']:.0f} ms, with the question's vector")


main()
