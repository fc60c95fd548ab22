-- Vectors of texts. A text that is there twice has one, and so has a text that comes
-- back, on another branch or under another name.

-- What makes vectors. Those of two never meet in one search.
CREATE TABLE embedders (
    id INTEGER PRIMARY KEY,
    identity BLOB NOT NULL UNIQUE,      -- SHA-256 of all that decides about its vectors
    model TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    current INTEGER NOT NULL            -- 1 for the one that texts are given to
);

-- Where a vector stands, and the lower bytes of its numbers. The number of its
-- embedder stands in the upper bits of the id, its text's in the lower ones.
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY,
    block INTEGER NOT NULL,
    place INTEGER NOT NULL,
    fine BLOB NOT NULL
);

-- Some hundred vectors together, as a search takes them into memory. No id is given
-- twice, so that a reader sees by id and `changed` whether it has this block already.
CREATE TABLE vector_blocks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    embedder INTEGER NOT NULL REFERENCES embedders,
    changed INTEGER NOT NULL,           -- grows with each change of any block
    live INTEGER NOT NULL               -- places that are taken
);
CREATE INDEX vector_blocks_open ON vector_blocks (embedder, live);
CREATE INDEX vector_blocks_changed ON vector_blocks (changed);

-- What stands in a block: written in place, so that a vector costs few pages.
CREATE TABLE vector_rows (
    block INTEGER PRIMARY KEY REFERENCES vector_blocks ON DELETE CASCADE,
    texts BLOB NOT NULL,                -- eight bytes a place, 0 where there is none
    scales BLOB NOT NULL,               -- four bytes a place
    coarse BLOB NOT NULL                -- the upper bytes of the numbers
);

-- Texts of which the current embedder has not made a vector yet.
CREATE TABLE unembedded (text INTEGER PRIMARY KEY REFERENCES texts ON DELETE CASCADE);
INSERT INTO unembedded SELECT id FROM texts;

-- Vectors whose text is gone, for a while: a branch is seldom left for good.
CREATE TABLE parked (
    hash BLOB PRIMARY KEY,              -- of the text
    embedder INTEGER NOT NULL REFERENCES embedders,
    parked INTEGER NOT NULL,            -- seconds since 1970
    scale REAL NOT NULL,
    coarse BLOB NOT NULL,
    fine BLOB NOT NULL
);
