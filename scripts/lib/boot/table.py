#!/usr/bin/env python3
"""The figures of boot_test.py as tables: table.py REPORT."""

import json
import sys

MIB = 1024 * 1024
TITLES = {"memory": "Resident memory", "exposure": "systemd-analyze security, 0 (none) to 10"}
FACTS = (
    "boot",
    "critical_chain",
    "mdns",
    "watchdog",
    "build_s",
    "model_answers",
    "update_s",
    "watchdog_fired_after_s",
)


def row(*cells):
    print("  " + "".join(f"{cell!s:<18}" for cell in cells).rstrip())


def boots(report):
    print("\nSeconds after power-on")
    row("boot", "status page", "engine ready", "answer")
    for at, times in enumerate(report["boots"], 1):
        row(at, times["status_page"], times["ready"], times["answer"])


def cuts(report):
    print("\nCuts")
    row("in", "after s", "cached writes", "bytes lost", "acknowledged")
    for cut in report["cuts"]:
        row(
            *(
                cut[name]
                for name in ("moment", "after_s", "writes_in_cache", "bytes_lost", "acknowledged")
            )
        )


def figures(name, found):
    print(f"\n{TITLES[name]}")
    for what, figure in found.items():
        row(what.removesuffix("_bytes"), f"{figure / MIB:.1f} MiB" if name == "memory" else figure)


def main():
    with open(sys.argv[1]) as file:
        report = json.load(file)
    image = report["image"]
    print(
        f"\nImage: {image['architecture']}, kernel {image['kernel']}, "
        f"engine {image['engine']}, files {image['files_bytes'] // MIB} MiB "
        f"(modules {image['modules_bytes'] // MIB} MiB), initrd {image['initrd_bytes'] // MIB} MiB"
    )
    if report["boots"]:
        boots(report)
    if report["cuts"]:
        cuts(report)
    for name in ("memory", "exposure"):
        if name in report:
            figures(name, report[name])
    for name in FACTS:
        if name in report:
            print(f"\n{name.replace('_', ' ')}: {report[name]}")
    print(f"\n{report['outcome']}, in {report.get('took_s', 'unknown')} s, seed {report['seed']}")


if __name__ == "__main__":
    main()
