-- Streamed answers of the last minutes, from which a client that lost its
-- connection gets the rest. Prompts and answers stand here, so rows are deleted
-- soon and their pages overwritten.
CREATE TABLE answers (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,            -- as the client knows it: chatcmpl-…
    owner TEXT NOT NULL,                -- who may have it again: a key's digest or an address
    touched INTEGER NOT NULL,           -- seconds since 1970 when it last grew
    finished INTEGER NOT NULL,          -- 1 once all of it was said
    bytes INTEGER NOT NULL,             -- of the recipe and all pieces
    recipe BLOB NOT NULL                -- what is needed to say it again and to go on
);

CREATE INDEX answers_touched ON answers (touched);

-- What was said, in the order in which it was said.
CREATE TABLE pieces (
    answer INTEGER NOT NULL REFERENCES answers ON DELETE CASCADE,
    piece INTEGER NOT NULL,             -- 0, 1, 2, …; what follows a gap is worthless
    said BLOB NOT NULL,
    PRIMARY KEY (answer, piece)
) WITHOUT ROWID;
