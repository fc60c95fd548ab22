-- Repositories, and what their files were cut into. All but the first table can
-- be made again from the files, so a damaged database loses nothing else.
CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    path TEXT NOT NULL,                 -- absolute
    owner TEXT,                         -- `key …`; null is shared by everybody
    configured INTEGER NOT NULL,        -- 1 if it stands in the configuration
    passed INTEGER                      -- seconds since 1970 of the last whole pass
);

CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    repository INTEGER NOT NULL REFERENCES repositories ON DELETE CASCADE,
    path TEXT NOT NULL,                 -- below the repository
    changed_ns INTEGER,                 -- these three are null where the file is to be looked at again
    size INTEGER,
    inode INTEGER,
    hash BLOB,                          -- of what it held; null if it was passed over
    language TEXT,
    note TEXT,                          -- why it was cut by lines, although its language is known
    skipped TEXT,                       -- why it was passed over
    UNIQUE (repository, path)
);

-- What a chunk says, once, however many files hold it. What is computed of a text
-- belongs beside it: a rename or another branch then computes nothing again.
CREATE TABLE texts (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,          -- SHA-256 of place and text
    place TEXT NOT NULL,                -- what it is in, without the path: `Fan > set_speed`
    text TEXT NOT NULL
);

-- The number of its repository stands in the upper bits of a chunk's id, so that a
-- search passes over what it may not see without looking any further.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    text INTEGER NOT NULL REFERENCES texts,
    kind TEXT NOT NULL,                 -- function, type, section or rest
    first_line INTEGER NOT NULL,        -- counted from 1
    last_line INTEGER NOT NULL
);

CREATE INDEX chunks_file ON chunks (file);
CREATE INDEX chunks_text ON chunks (text);

-- The words of each chunk, under its id, identifiers taken apart: its path and
-- place, and its text. Deleted words leave nothing in the index.
CREATE VIRTUAL TABLE words USING fts5 (header, body, tokenize = 'porter unicode61');
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
INSERT INTO words (words, rank) VALUES ('rank', 'bm25(3.0, 1.0)');
