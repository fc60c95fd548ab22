#!/usr/bin/env python3
"""Which C and C++ libraries programs need, by the versions of the symbols that they
take from them. Ends with 1, and says which symbols are too new, where a limit that
was given is passed.

    needs.py --glibc 2.35 --glibcxx 3.4.30 PROGRAM...
    needs.py --newest GLIBC PROGRAM...
"""

import argparse
import re
import subprocess
import sys

# As readelf prints a symbol that another library has: `memcpy@GLIBC_2.17 (3)`.
SYMBOL = re.compile(r"\bUND\s+(\S+?)@+(GLIBC|GLIBCXX)_([0-9.]+)\b")


def needed(listing):
    """{library: {version: [symbol]}} of what `readelf --dyn-syms --wide` printed."""
    found = {"GLIBC": {}, "GLIBCXX": {}}
    for symbol, library, version in SYMBOL.findall(listing):
        key = tuple(int(part) for part in version.split("."))
        found[library].setdefault(key, []).append(symbol)
    return found


def listing_of(program):
    command = ["readelf", "--dyn-syms", "--wide", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or "Symbol table" not in done.stdout:
        sys.exit(f"needs: {program} has no symbols that can be read: {done.stderr.strip()}")
    return done.stdout


def words(version):
    return ".".join(str(part) for part in version)


def numbers(text):
    return tuple(int(part) for part in text.split("."))


def newest_of(programs, library):
    versions = [max(needed(listing_of(program))[library], default=()) for program in programs]
    return max(versions)


def passed(program, found, limits):
    """What is too new, a line for each version."""
    for library, limit in limits.items():
        for version, symbols in sorted(found[library].items()):
            if version > limit:
                names = ", ".join(sorted(set(symbols)))
                yield (
                    f"{program} needs {library}_{words(version)}, newer than "
                    f"{words(limit)}, for {names}"
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--glibc", type=numbers, default=(), metavar="VERSION")
    parser.add_argument("--glibcxx", type=numbers, default=(), metavar="VERSION")
    parser.add_argument("--newest", choices=["GLIBC", "GLIBCXX"])
    parser.add_argument("programs", nargs="+")
    arguments = parser.parse_args()
    if arguments.newest:
        print(words(newest_of(arguments.programs, arguments.newest)))
        return
    limits = {"GLIBC": arguments.glibc, "GLIBCXX": arguments.glibcxx}
    limits = {library: limit for library, limit in limits.items() if limit}
    problems = []
    for program in arguments.programs:
        found = needed(listing_of(program))
        newest = [f"{it}_{words(max(found[it]))}" for it in found if found[it]]
        print(f"  {program} needs {' and '.join(newest) or 'neither library'}", file=sys.stderr)
        problems += passed(program, found, limits)
    if problems:
        sys.exit("needs: " + "\nneeds: ".join(problems))


if __name__ == "__main__":
    main()
