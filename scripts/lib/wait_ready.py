"""Waits until a server started by scripts/run can answer, and says on standard
error what it is doing meanwhile.

    wait_ready.py PORT PID LIMIT_S

Exits 0 when /ready says 200; 1 when the process PID has ended, when the engine
has failed for good, or when LIMIT_S seconds have passed.
"""

import http.client
import json
import os
import sys
import time

PERIOD_S = 0.1
# States that no waiting mends.
FINAL = ("absent", "failed")


def get(port, path):
    """Status and body, or None while nobody answers on the port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def engine_state(port):
    """The engine's part of /api/status, or None while there is none."""
    answer = get(port, "/api/status")
    if answer is None or answer[0] != 200:
        return None
    return json.loads(answer[1])["engine"]["state"]


def describe(state):
    """One line a person understands, for example `loading 40 %`."""
    if state is None:
        return "starting"
    name = state["name"]
    if name == "loading":
        return f"loading {state['fraction']:.0%}".replace("%", " %")
    if state.get("reason"):
        return f"{name}: {state['reason']}"
    return name


def is_running(pid):
    """False for a process that has ended, be it waited for or not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


class Progress:
    """What the engine does: one line that is written over on a terminal,
    elsewhere a line for each new state and now and then one between."""

    LINE_PERIOD_S = 5

    def __init__(self):
        self.started = time.monotonic()
        self.shown = None
        self.shown_at_s = 0
        self.terminal = sys.stderr.isatty()

    def elapsed(self):
        return time.monotonic() - self.started

    def show(self, text):
        line = f"Engine: {text} ({self.elapsed():.1f} s)"
        if self.terminal:
            sys.stderr.write(f"\r\x1b[K{line}")
        elif self.is_news(text):
            sys.stderr.write(f"{line}\n")
        else:
            return
        self.shown, self.shown_at_s = text, self.elapsed()
        sys.stderr.flush()

    def is_news(self, text):
        if self.shown is None or text.split()[0] != self.shown.split()[0]:
            return True
        return text != self.shown and self.elapsed() - self.shown_at_s >= self.LINE_PERIOD_S

    def close(self):
        if self.terminal and self.shown is not None:
            sys.stderr.write("\n")
            sys.stderr.flush()


def wait(port, pid, limit_s, progress):
    """True when ready."""
    while progress.elapsed() < limit_s:
        if not is_running(pid):
            return False
        state = engine_state(port)
        ready = get(port, "/ready")
        if ready is not None and ready[0] == 200:
            progress.show("ready")
            return True
        progress.show(describe(state))
        if state is not None and state["name"] in FINAL:
            return False
        time.sleep(PERIOD_S)
    progress.show(f"not ready after {limit_s:.0f} s")
    return False


def main():
    port, pid, limit_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    progress = Progress()
    try:
        ready = wait(port, pid, limit_s, progress)
    finally:
        progress.close()
    sys.exit(0 if ready else 1)


main()
