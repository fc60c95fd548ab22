#!/usr/bin/env python3
"""The figures of boot_test.py as tables: table.py REPORT."""

import json
import sys

MIB = 1024 * 1024


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
        row(*(cut[name] for name in ("moment", "after_s", "writes_in_cache", "bytes_lost", "acknowledged")))


def main():
    with open(sys.argv[1]) as file:
        report = json.load(file)
    image = report["image"]
    print(f"\nImage: kernel {image['kernel']}, engine {image['engine']}, files {image['files_bytes'] // MIB} MiB "
          f"(modules {image['modules_bytes'] // MIB} MiB), initrd {image['initrd_bytes'] // MIB} MiB")
    if report["boots"]:
        boots(report)
    if report["cuts"]:
        cuts(report)
    for name in ("boot", "critical_chain", "watchdog", "watchdog_fired_after_s", "memory"):
        if name in report:
            print(f"\n{name.replace('_', ' ')}: {report[name]}")
    print(f"\n{report['outcome']}, in {report.get('took_s', 'unknown')} s, seed {report['seed']}")


if __name__ == "__main__":
    main()
