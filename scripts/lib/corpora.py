"""The packages that `scripts/bench memory retrieval` searches, pinned by version and hash.

Settings are chosen on those of `tune` alone; what is reported comes from the others.
"""

import hashlib
import io
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from typing import NamedTuple

from doc_comments import strip


class Package(NamedTuple):
    part: str
    language: str
    name: str
    version: str
    digest: str  # SHA-256
    below: str = ""  # the directory of it that counts


PACKAGES = [
    Package("tune", "python", "click", "8.2.1", "61a3265b914e850b85317d0b3109c7f8cd35a670f963866005d6ef1d5175a12b"),
    Package("tune", "rust", "clap_builder", "4.5.40", "e0c66c08ce9f0c698cbce5c0279d0bb6ac936d8674174fe48f736533b964f59e"),
    Package("tune", "javascript", "commander", "14.0.0", "eaef3a697e7173c7347ca4c1e60dd2bc1d38214d2aaecce89d70881a51d7fde7"),
    Package("tune", "javascript", "winston", "3.17.0", "6dc0d9098a6e90ff760e00c54df25d090c7e090e424d935113ef878eb1b2cb84"),
    Package("tune", "c", "libz-sys", "1.1.22", "8b70e7a7df205e92a1a4cd9aaae7898dac0aa555503cc0a649494d0d60e7651d", "src/zlib"),
    Package("tune", "c", "lz4-sys", "1.11.1+lz4-1.10.0", "6bd8c0d6c6ed0cd30b3652886bb8711dc4bb01d637a68105a3d5158039b418e6", "liblz4"),
    Package("report", "python", "flask", "3.1.2", "ca1d8112ec8a6158cc29ea4858963350011b5c846a414cdb7a954aa9e967d03c"),
    Package("report", "rust", "axum", "0.8.4", "021e862c184ae977658b36c4500f7feac3221ca5da43e3f25bd04ab6c79a29b5"),
    Package("report", "rust", "globset", "0.4.16", "54a1028dfc5f5df5da8a56a73e6c153c9a9708ec57232470703592a3f18e49f5"),
    Package("report", "javascript", "express", "5.1.0", "dd6bdb4d4e54d520c78443d5c35aa4ae552be1837e8650d2ec1641df99393e1b"),
    Package("report", "javascript", "lodash-es", "4.17.21", "777598ac703f02b403ef678cd11bce2150ad788f35c774ea7c9cc241a892cb7b"),
    Package("report", "c", "lua-src", "547.0.0", "1edaf29e3517b49b8b746701e5648ccb5785cde1c119062cbabbc5d5cd115e42", "lua-5.4.7"),
]
LANGUAGES = {".py": "python", ".rs": "rust", ".js": "javascript", ".c": "c", ".h": "c"}
# What is no source of the package itself.
ASIDE = {"test", "tests", "testing", "docs", "examples", "benches", "dist", "contrib", "node_modules"}
LARGEST = 400_000  # bytes of a file; the larger ones are tables of numbers
WORDS = range(6, 41)  # of a question
SEED = 1


class Question(NamedTuple):
    text: str
    language: str
    path: str
    name: str
    first: int
    last: int

    def without_name(self):
        """The text without the words of the function's name."""
        name = self.name.lower()
        pieces = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", self.name).lower().split("_")
        gone = {name, *pieces}
        kept = [word for word in self.text.split() if not gone & set(re.findall(r"[a-z0-9]+|\w+", word.lower()))]
        return self._replace(text=" ".join(kept))


def archive(package, directory):
    """The package as it is published, fetched now or at an earlier time."""
    path = directory / f"{package.name}-{package.version}"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as work:
            fetch = {"python": wheel, "javascript": npm_package}.get(package.language, crate)
            fetch(package, pathlib.Path(work)).rename(path)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != package.digest:
        sys.exit(f"{path} is another file than the one that was pinned; delete it and start again")
    return data


def wheel(package, work):
    run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
         "--dest", work, f"{package.name}=={package.version}"])
    return next(work.glob("*.whl"))


def npm_package(package, work):
    run(["npm", "pack", "--silent", "--pack-destination", work, f"{package.name}@{package.version}"])
    return next(work.glob("*.tgz"))


def crate(package, work):
    """By a project that needs nothing else; cargo keeps the archives of what it fetched."""
    (work / "src").mkdir()
    (work / "src/lib.rs").touch()
    version = package.version.split("+")[0]
    manifest = f'[package]\nname = "corpus"\n[dependencies]\n{package.name} = "={version}"\n[workspace]\n'
    (work / "Cargo.toml").write_text(manifest)
    run(["cargo", "fetch", "--quiet", "--manifest-path", work / "Cargo.toml"])
    home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    kept = next(home.glob(f"registry/cache/*/{package.name}-{package.version}.crate"))
    return pathlib.Path(shutil.copy(kept, work))


def run(command):
    subprocess.run(command, check=True, stdout=sys.stderr)


def sources(package, directory):
    """Path and text of each source file."""
    data = io.BytesIO(archive(package, directory))
    if package.language == "python":
        with zipfile.ZipFile(data) as files:
            found = {name: files.read(name) for name in files.namelist()}
    else:
        with tarfile.open(fileobj=data) as files:
            # Below a directory with the package's name.
            found = {each.name.split("/", 1)[-1]: files.extractfile(each).read() for each in files if each.isfile()}
    for name, content in sorted(found.items()):
        path = pathlib.PurePosixPath(name)
        below = pathlib.PurePosixPath(package.below)
        inner = path.is_relative_to(below) and not ASIDE & set(path.parts)
        if inner and len(content) <= LARGEST and LANGUAGES.get(path.suffix) == package.language:
            yield path, content.decode(errors="replace")


def corpus(part, directory, to, most):
    """Writes the stripped sources of a part below a directory; at most so many
    questions of each package."""
    asked = []
    for package in PACKAGES:
        if package.part != part:
            continue
        questions = []
        for path, source in sources(package, directory):
            try:
                stripped, documented = strip(package.language, source, path.suffix == ".h")
            except SyntaxError:
                continue
            place = pathlib.PurePosixPath(package.name) / path
            (to / place).parent.mkdir(parents=True, exist_ok=True)
            (to / place).write_text(stripped)
            questions += [Question(text, package.language, str(place), *rest) for text, *rest in documented]
        texts = [question.text for question in questions]
        questions = [q for q in questions if len(q.text.split()) in WORDS and texts.count(q.text) == 1]
        random.Random(SEED).shuffle(questions)
        asked += questions[:most]
    return asked
