-- Conversations whose clients wished for memory. A conversation is known by the name
-- that its client gave it, or by the hashes of its messages.
CREATE TABLE conversations (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,                -- an address, or `key …`
    name TEXT,                          -- of `X-Conversation-Id`
    begun INTEGER NOT NULL,             -- seconds since 1970
    touched INTEGER NOT NULL,
    bytes INTEGER NOT NULL              -- of all that was said
);

CREATE UNIQUE INDEX conversations_name ON conversations (owner, name);
CREATE INDEX conversations_touched ON conversations (touched);

-- What was said, each message once, whichever branches go on from it.
CREATE TABLE turns (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
    link BLOB NOT NULL,                 -- hash of all messages up to this one
    alone BLOB NOT NULL,                -- hash of it alone
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    calls TEXT,                         -- JSON, as the client sent it
    at INTEGER NOT NULL,
    UNIQUE (conversation, link)
);

CREATE INDEX turns_link ON turns (link);
CREATE INDEX turns_alone ON turns (conversation, alone);

-- How a conversation was made shorter, at the last message that this is about: so that
-- the prompt begins with the same tokens until the next time.
CREATE TABLE resets (
    conversation INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
    link BLOB NOT NULL,
    masked INTEGER NOT NULL,            -- 1: tool output up to here is masked; 0: all is left out
    block TEXT NOT NULL,                -- what stands in its place
    PRIMARY KEY (conversation, link, masked)
) WITHOUT ROWID;

-- What was recalled before a message stands in `additions`, with found code.
ALTER TABLE additions ADD COLUMN conversation INTEGER REFERENCES conversations ON DELETE CASCADE;
CREATE INDEX additions_conversation ON additions (conversation);

-- The words of passages. A passage's turn stands in the upper bits of its id, so that
-- only those of one conversation are looked at. Deleted words leave nothing in the index.
CREATE VIRTUAL TABLE passages USING fts5 (words, text UNINDEXED, tokenize = 'porter unicode61');
INSERT INTO passages (passages, rank) VALUES ('secure-delete', 1);
