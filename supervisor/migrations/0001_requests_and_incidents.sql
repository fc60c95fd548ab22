-- One row for each request that was accepted. Times are milliseconds; a phase
-- that was not reached is null.
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,                -- seconds since 1970 when it was accepted
    client TEXT NOT NULL,               -- an address, or `key …` with a short digest
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,              -- answered, failed or cancelled
    reason TEXT NOT NULL,               -- why it ended: stop, length, or what failed
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    queued_ms INTEGER,
    prefill_ms INTEGER,
    decode_ms INTEGER,
    total_ms INTEGER NOT NULL
);

CREATE INDEX requests_at ON requests (at);

-- What went wrong and what was done about it. The supervisor chooses the id.
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,                -- seconds since 1970
    kind TEXT NOT NULL,                 -- a constant such as engine_died
    problem TEXT NOT NULL,
    cause TEXT NOT NULL,
    evidence TEXT NOT NULL,             -- JSON
    done TEXT NOT NULL,
    advice TEXT NOT NULL
);
