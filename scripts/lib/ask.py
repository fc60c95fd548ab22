"""Asks a server one question and writes the answer as it comes, as plain text.

    ask.py PORT PROMPT

Exits 0 only when the answer came to its proper end: an error inside the stream,
or a stream that was cut, is said on standard error and exits 1.
"""

import http.client
import json
import sys

# Longest silence between two pieces of the stream. The server sends a comment
# every few seconds even while it has nothing to say.
SILENCE_S = 120

# A small model may go on until its window is full; this is enough to see it work.
LONGEST_ANSWER = 512


class Trouble(Exception):
    """Why there is no whole answer, in words for the person who asked."""


def events(response):
    """The data of each server-sent event: lines of one event are joined,
    comments and other fields are passed over (WHATWG HTML, section 9.2.6)."""
    data = []
    for raw in response:
        line = raw.decode("utf-8", errors="replace").rstrip("\r\n")
        if line == "":
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[len("data:"):].removeprefix(" "))


def error_text(document):
    error = document.get("error")
    return error.get("message", str(error)) if isinstance(error, dict) else str(error)


def answer(response):
    """The pieces of the answer's text."""
    finished = False
    for event in events(response):
        if event == "[DONE]":
            if not finished:
                raise Trouble("the stream ended without a finish reason")
            return
        document = json.loads(event)
        if document.get("error"):
            raise Trouble(error_text(document))
        for choice in document.get("choices", []):
            text = choice.get("delta", {}).get("content")
            if text:
                yield text
            if choice.get("finish_reason") == "length":
                print(f"\n(ended after {LONGEST_ANSWER} tokens)", file=sys.stderr)
            finished = finished or choice.get("finish_reason") is not None
    raise Trouble("the stream was cut")


def ask(port, prompt):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SILENCE_S)
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": LONGEST_ANSWER,
        "stream": True,
    }
    connection.request(
        "POST",
        "/v1/chat/completions",
        json.dumps(body),
        {"Content-Type": "application/json"},
    )
    response = connection.getresponse()
    if response.status != 200:
        text = response.read().decode("utf-8", errors="replace")
        try:
            text = error_text(json.loads(text))
        except (ValueError, AttributeError):
            pass
        raise Trouble(f"HTTP {response.status}: {text}")
    for text in answer(response):
        sys.stdout.write(text)
        sys.stdout.flush()


def main():
    problem = None
    try:
        ask(int(sys.argv[1]), sys.argv[2])
    except Trouble as trouble:
        problem = str(trouble)
    except (OSError, http.client.HTTPException) as error:
        problem = f"the connection to the server failed: {error!r}"
    except ValueError as error:
        problem = f"the server sent an event that is not JSON: {error}"
    sys.stdout.write("\n")
    if problem:
        print(f"no whole answer: {problem}", file=sys.stderr)
    sys.exit(1 if problem else 0)


main()
