-- The graph of definitions and uses. Names belong to texts, as vectors do: a text that
-- is there twice has them once, and they go with it.

-- A name stands as the first eight bytes of its SHA-256, so that it is a number of one
-- size wherever it is looked for.
CREATE TABLE definitions (
    symbol INTEGER NOT NULL,
    text INTEGER NOT NULL REFERENCES texts ON DELETE CASCADE,
    line INTEGER NOT NULL,              -- where the name stands, from 0 at the text's first
    name TEXT NOT NULL,
    PRIMARY KEY (symbol, text, line)
) WITHOUT ROWID;
CREATE INDEX definitions_text ON definitions (text);

-- What a text calls or names as a type, and does not define itself.
CREATE TABLE uses (
    text INTEGER NOT NULL REFERENCES texts ON DELETE CASCADE,
    symbol INTEGER NOT NULL,
    PRIMARY KEY (text, symbol)
) WITHOUT ROWID;
CREATE INDEX uses_symbol ON uses (symbol);

-- 1 once its names are written. A later change of the rules sets it back.
ALTER TABLE texts ADD COLUMN named INTEGER NOT NULL DEFAULT 0;

-- Every file that was cut is read again by the next pass, which brings its names. Its
-- vectors stay, because they belong to texts that stay the same.
UPDATE files SET changed_ns = NULL, size = NULL, inode = NULL WHERE hash IS NOT NULL;
