-- Not every engine tells how many tokens of one prompt it had not to compute:
-- null is unknown. SQLite cannot take a NOT NULL away, so the table is written anew.
CREATE TABLE requests_anew (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,                -- seconds since 1970 when it was accepted
    client TEXT NOT NULL,               -- an address, or `key …` with a short digest
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,              -- answered, failed or cancelled
    reason TEXT NOT NULL,               -- why it ended: stop, length, or what failed
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER,
    completion_tokens INTEGER NOT NULL,
    queued_ms INTEGER,
    prefill_ms INTEGER,
    decode_ms INTEGER,
    total_ms INTEGER NOT NULL
);

INSERT INTO requests_anew SELECT
    id, at, client, endpoint, model, outcome, reason, prompt_tokens, cached_tokens,
    completion_tokens, queued_ms, prefill_ms, decode_ms, total_ms
FROM requests;

DROP TABLE requests;

ALTER TABLE requests_anew RENAME TO requests;

CREATE INDEX requests_at ON requests (at);
