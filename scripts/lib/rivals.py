"""Other stores of vectors, for `scripts/bench memory vectors`: one of them, by name,
answers all questions, one by one, for each line that it is given, with the time of each.
All of them look at every vector."""

import json
import sys
import time

import numpy


def faiss(vectors):
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return lambda question, wanted: index.search(question, wanted)[1][0].tolist()


def usearch(vectors):
    from usearch.index import MetricKind, search

    return lambda question, wanted: search(vectors, question[0], wanted, MetricKind.IP, exact=True).keys.tolist()


def sqlite_vec(vectors):
    # Python's own module is often built without extensions.
    import apsw
    import sqlite_vec

    database = apsw.Connection(":memory:")
    database.enable_load_extension(True)
    database.load_extension(sqlite_vec.loadable_path())
    database.execute(f"CREATE VIRTUAL TABLE t USING vec0 (v float[{vectors.shape[1]}])")
    with database:
        rows = ((at, vector.tobytes()) for at, vector in enumerate(vectors))
        database.executemany("INSERT INTO t (rowid, v) VALUES (?, ?)", rows)
    # Of vectors of length 1 the nearest are those with the largest product.
    select = "SELECT rowid FROM t WHERE v MATCH ? AND k = ? ORDER BY distance"
    return lambda question, wanted: [row[0] for row in database.execute(select, (question.tobytes(), wanted))]


name, path, (vectors, questions, dimension, wanted) = sys.argv[1], sys.argv[2], map(int, sys.argv[3:])
# Mapped, so that all of them share one copy of what they do not copy themselves.
numbers = numpy.memmap(path, "<f4", "r", shape=(vectors + questions, dimension))
search = {"faiss": faiss, "usearch": usearch, "sqlite-vec": sqlite_vec}[name](numbers[:vectors])
asked = [numpy.array(numbers[vectors + at : vectors + at + 1]) for at in range(questions)]

for _ in sys.stdin:
    times, found = [], []
    for question in asked:
        began = time.perf_counter()
        near = search(question, wanted)
        times.append((time.perf_counter() - began) * 1e3)
        found.append(near)
    print(json.dumps({"ms": times, "found": found}), flush=True)
