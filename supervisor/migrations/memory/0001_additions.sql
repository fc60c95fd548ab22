-- What was put before a message of the user, so that it stands there again when
-- the message is sent again. Of the message itself there is only the hash.
CREATE TABLE additions (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,                -- an address, or `key …`
    link BLOB NOT NULL,                 -- hash of all messages up to this one
    touched INTEGER NOT NULL,           -- seconds since 1970 when it was last used
    asked TEXT NOT NULL,                -- JSON: the repositories that were asked for
    block TEXT NOT NULL,                -- as it stands in the prompt
    items TEXT NOT NULL,                -- JSON: where each part is from, and its tokens
    UNIQUE (owner, link)
);

CREATE INDEX additions_touched ON additions (touched);
