"""Retrieval on Python packages whose docstrings are taken away and asked for, for
`scripts/bench memory retrieval`: Stoker's search against fixed chunks of 40 lines in FAISS,
with the same embedder, and in plain FTS5.

A question is the first paragraph of a function's docstring; it is answered by the
chunks that hold the function. Packages are pinned by version and hash.
"""

import argparse
import ast
import hashlib
import json
import math
import pathlib
import random
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile

import faiss
import numpy

# Name, version, SHA-256 of the wheel, and what it is for.
PACKAGES = [
    ("click", "8.2.1", "61a3265b914e850b85317d0b3109c7f8cd35a670f963866005d6ef1d5175a12b", "tune"),
    ("flask", "3.1.2", "ca1d8112ec8a6158cc29ea4858963350011b5c846a414cdb7a954aa9e967d03c", "report"),
    ("jinja2", "3.1.6", "85ece4451f492d0c13c5dd7c13a64681a86afae63a5f347908daf103ce6d2f67", "report"),
    ("werkzeug", "3.1.3", "54b78bf3716d19a65be4fceccc0d1d7b89e608834989dfae50ea87564639213e", "report"),
]
WORDS = range(6, 41)  # of a question
LINES, OVERLAP = 40, 10  # of a fixed chunk
HITS = 10
BUDGET = 2000 * 4  # characters that stand for 2,000 tokens


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench memory retrieval")
    parser.add_argument("--stoker", required=True)
    parser.add_argument("--state-dir", required=True, help="with an embedder in it")
    parser.add_argument("--packages", required=True, help="where they are kept")
    parser.add_argument("--work", required=True, help="an empty directory")
    parser.add_argument("--part", choices=["tune", "report"], default="report")
    parser.add_argument("--questions", type=int, default=200, help="of each package")
    return parser.parse_args()


def fetch(directory, name, version, digest):
    """The unpacked package."""
    directory.mkdir(parents=True, exist_ok=True)
    archive = directory / f"{name}-{version}-py3-none-any.whl"
    if not archive.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
             "--dest", directory, f"{name}=={version}"], check=True)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != digest:
        sys.exit(f"{archive} is another file than the one that was pinned")
    unpacked = directory / "unpacked" / name
    with zipfile.ZipFile(archive) as files:
        files.extractall(unpacked)
    return unpacked


def strip(source):
    """The source without docstrings, and (first paragraph, name, first line, last line)."""
    tree, lines = ast.parse(source), source.split("\n")
    found, gone = [], set()
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        text = ast.get_docstring(node)
        if text is None:
            continue
        where = node.body[0]
        # A body that is nothing else keeps something to do.
        alone = len(node.body) == 1
        for line in range(where.lineno, where.end_lineno + 1):
            if alone and line == where.lineno:
                lines[line - 1] = " " * where.col_offset + "pass"
            else:
                gone.add(line)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append((" ".join(text.split("\n\n")[0].split()), node))
    kept = [number for number in range(1, len(lines) + 1) if number not in gone]
    new = {number: at for at, number in enumerate(kept, 1)}
    last = lambda node: max(new[n] for n in range(node.lineno, node.end_lineno + 1) if n in new)
    asked = [(text, node.name, new[node.lineno], last(node)) for text, node in found]
    return "\n".join(lines[number - 1] for number in kept), asked


def corpus(root, to):
    """Writes the stripped files of a package; its questions."""
    asked = []
    for path in sorted(root.rglob("*.py")):
        inner = path.relative_to(root)
        if {"tests", "test", "docs", "examples", "testing"} & set(inner.parts):
            continue
        try:
            source, questions = strip(path.read_text())
        except (SyntaxError, UnicodeDecodeError):
            continue
        (to / inner).parent.mkdir(parents=True, exist_ok=True)
        (to / inner).write_text(source)
        asked += [(text, str(inner), name, first, last) for text, name, first, last in questions]
    texts = [text for text, *_ in asked]
    return [one for one in asked if len(one[0].split()) in WORDS and texts.count(one[0]) == 1]


class Server:
    """A Stoker of its own, with one repository."""

    def __init__(self, stoker, state_dir, repository, config):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        config.write_text(f'[index]\nperiod_s = 3600\n[[repository]]\nname = "all"\npath = "{repository}"\n')
        self.process = subprocess.Popen(
            [stoker, "serve", "--config", config, "--state-dir", state_dir, "--listen", self.address],
            stderr=subprocess.DEVNULL)

    def ask(self, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://{self.address}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def ready(self):
        """Waits until each text has its vector; how many there are, and seconds."""
        began = time.monotonic()
        while True:
            try:
                said = self.ask("/api/repositories")
                done = said["repositories"] and said["repositories"][0]["state"] == "indexed"
                if done and said["vectors"] and said["vectors"]["state"] == "made" and said["vectors"]["made"]:
                    return said["vectors"]["made"], time.monotonic() - began
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.5)

    def vectors(self, texts):
        made = []
        for at in range(0, len(texts), 16):
            answer = self.ask("/api/embed", {"model": "default", "input": texts[at:at + 16]})
            made += answer["embeddings"]
        return numpy.array(made, dtype="float32")

    def search(self, text):
        while True:
            found = self.ask("/v1/search", {"query": text, "limit": 50})
            if found["words_only"] is None:
                return [(hit["path"], hit["first_line"], hit["last_line"], hit["text"]) for hit in found["data"]], found["took_ms"]


def fixed(directory):
    chunks = []
    for path in sorted(directory.rglob("*.py")):
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
        rows = database.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY rank LIMIT 50", (query,))
        return [chunks[row[0]] for row in rows]

    return search


def scores(found, question):
    """Reciprocal rank among the first ten, whether among the first five, and which
    share of the function's lines stands in the first 2,000 tokens."""
    _, path, _, first, last = question
    rank = next((at for at, (where, begin, end, _) in enumerate(found[:HITS], 1)
                 if where == path and begin <= first <= end), None)
    room, seen = BUDGET, set()
    for where, begin, end, text in found:
        room -= len(text)
        if room < 0:
            break
        if where == path:
            seen |= set(range(max(begin, first), min(end, last) + 1))
    return (1 / rank if rank else 0.0, float(rank is not None and rank <= 5), len(seen) / (last - first + 1))


def without_name(question):
    """The question without the words of the function's name."""
    text, name = question[0], question[2].lower()
    parts = set(name.replace("_", " ").split()) | {name}
    kept = [word for word in text.split() if word.strip("`.,:;()'\"").lower() not in parts]
    return " ".join(kept)


def table(name, per_side, count):
    print(f"{name}: {count} questions")
    print(f"  {'':32}  MRR@10    R@5  lines in 2k tokens")
    for side, rows in per_side.items():
        mean = numpy.mean(rows, axis=0)
        print(f"  {side:32}  {mean[0]:6.3f}  {mean[1]:5.3f}  {mean[2]:6.3f}")
    ours = numpy.array(per_side["stoker"])[:, 0]
    draw = numpy.random.default_rng(1)
    for side in ("faiss, 40 lines", "plain FTS5, 40 lines"):
        other = numpy.array(per_side[side])[:, 0]
        picks = draw.integers(0, count, (2000, count))
        low, high = numpy.percentile(ours[picks].mean(1) / numpy.maximum(other[picks].mean(1), 1e-9), [2.5, 97.5])
        print(f"  MRR against {side}: {ours.mean() / max(other.mean(), 1e-9):.2f} times (95 %: {low:.2f} to {high:.2f})")


def main():
    options = arguments()
    packages, work = pathlib.Path(options.packages), pathlib.Path(options.work)
    texts = work / "texts"
    questions = []
    for name, version, digest, part in PACKAGES:
        if part != options.part:
            continue
        root = fetch(packages, name, version, digest)
        asked = corpus(root, texts / name)
        asked = [(text, f"{name}/{path}", *rest) for text, path, *rest in asked]
        random.Random(1).shuffle(asked)
        questions += asked[:options.questions]
    server = Server(options.stoker, options.state_dir, texts, work / "stoker.toml")
    try:
        count, seconds = server.ready()
        print(f"{count} texts have vectors, after {seconds:.0f} s")
        chunks = fixed(texts)
        index = faiss.IndexFlatIP(384)
        index.add(server.vectors([chunk[3] for chunk in chunks]))
        fts = plain_fts(chunks)
        for title, change in (("as asked", lambda question: question[0]), ("without the function's name", without_name)):
            sides = {"stoker": [], "faiss, 40 lines": [], "plain FTS5, 40 lines": []}
            took = []
            asked = [(change(question), *question[1:]) for question in questions]
            asked = [question for question in asked if question[0]]
            vectors = server.vectors([question[0] for question in asked])
            for question, vector in zip(asked, vectors):
                found, ms = server.search(question[0])
                took.append(ms)
                sides["stoker"].append(scores(found, question))
                _, near = index.search(vector[None], 50)
                sides["faiss, 40 lines"].append(scores([chunks[at] for at in near[0] if at >= 0], question))
                sides["plain FTS5, 40 lines"].append(scores(fts(question[0]), question))
            table(title, sides, len(asked))
            took.sort()
            print(f"  a search took {took[len(took) // 2]} ms, p95 {took[math.ceil(len(took) * 0.95) - 1]} ms, with the question's vector")
    finally:
        server.process.terminate()
        server.process.wait()


main()
