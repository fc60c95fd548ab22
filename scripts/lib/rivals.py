"""FAISS's exact index, for `scripts/bench memory`: answers all questions, one by
one, for each line that it is given, with the time of each."""

import json
import sys
import time

import faiss
import numpy

path, (vectors, questions, dimension, wanted) = sys.argv[1], map(int, sys.argv[2:])
numbers = numpy.fromfile(path, dtype="<f4").reshape(vectors + questions, dimension)
index = faiss.IndexFlatIP(dimension)
index.add(numbers[:vectors])
asked = [numbers[vectors + at : vectors + at + 1] for at in range(questions)]

for _ in sys.stdin:
    times, found = [], []
    for question in asked:
        began = time.perf_counter()
        _, near = index.search(question, wanted)
        times.append((time.perf_counter() - began) * 1e3)
        found.append(near[0].tolist())
    print(json.dumps({"ms": times, "found": found}), flush=True)
