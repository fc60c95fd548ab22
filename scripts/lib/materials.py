#!/usr/bin/env python3
"""What programs are made of: a CycloneDX 1.5 document from cargo's metadata on
standard input. The same input gives the same bytes.

    cargo metadata --locked | materials.py CARGO_LOCK SECONDS_SINCE_1970 PROGRAM...
"""

import datetime
import json
import re
import sys
import uuid

# Code of others that lies inside a crate and has no entry of its own.
WITHIN = {
    "llama-cpp-sys-2": ("llama.cpp", "MIT"),
    "libsqlite3-sys": ("SQLite", "blessing"),
}


# As cargo writes it; Ubuntu 22.04's Python has no reader for TOML.
LOCKED = re.compile(
    r'^name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "([0-9a-f]{64})"$', re.M
)


def checksums(lock):
    return {(name, version): checksum for name, version, checksum in LOCKED.findall(lock)}


def reachable(nodes, roots):
    """The packages that are built into the programs, or that build them."""
    found, open_ends = set(), list(roots)
    while open_ends:
        name = open_ends.pop()
        if name in found:
            continue
        found.add(name)
        open_ends += depends_on(nodes[name])
    return found


def depends_on(node):
    """Without what only tests need."""
    return [
        dependency["pkg"]
        for dependency in node["deps"]
        if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])
    ]


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, sums):
    made = {
        "type": "library" if package["source"] else "application",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(package),
        "licenses": licences(package["license"]),
    }
    checksum = sums.get((package["name"], package["version"]))
    if checksum:
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["name"] in WITHIN:
        name, licence = WITHIN[package["name"]]
        made["components"] = [{
            "type": "library",
            "bom-ref": f"{reference(package)}#{name}",
            "name": name,
            "licenses": licences(licence),
            "description": f"its source lies in this version of {package['name']}",
        }]
    return made


def licences(text):
    # Old manifests write `MIT/Apache-2.0`, which is no expression.
    return [{"expression": text.replace("/", " OR ")}] if text else []


def document(metadata, lock, seconds, programs):
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    roots = [
        package["id"]
        for package in packages.values()
        if not package["source"]
        and any("bin" in it["kind"] and it["name"] in programs for it in package["targets"])
    ]
    if len(roots) != len(programs):
        sys.exit(f"materials: {programs} are not all programs of this workspace")
    found = sorted(reachable(nodes, roots), key=lambda name: reference(packages[name]))
    sums = checksums(lock)
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    version = packages[roots[0]]["version"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, lock + version)}",
        "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": f"stoker@{version}",
                "name": "stoker",
                "version": version,
            },
        },
        "components": [component(packages[name], sums) for name in found],
        "dependencies": [
            {
                "ref": f"stoker@{version}",
                "dependsOn": sorted(reference(packages[name]) for name in roots),
            }
        ]
        + [
            {
                "ref": reference(packages[name]),
                "dependsOn": sorted({reference(packages[it]) for it in depends_on(nodes[name])}),
            }
            for name in found
        ],
    }


def main():
    lock, seconds, *programs = sys.argv[1:]
    with open(lock, encoding="utf-8") as file:
        text = file.read()
    made = document(json.load(sys.stdin), text, int(seconds), programs)
    json.dump(made, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
