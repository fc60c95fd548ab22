-- What the model made of a block of messages: kept here from when it was made, part of
-- a prompt only from the next reset on, whose block then has its text.
CREATE TABLE summaries (
    conversation INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
    link BLOB NOT NULL,                 -- hash of all messages up to the block's last one
    attempts INTEGER NOT NULL,          -- counted before each is made, so that none kills for ever
    text TEXT,                          -- NULL: not made yet; empty: nothing of it can be believed
    PRIMARY KEY (conversation, link)
) WITHOUT ROWID;

-- A reset that was decided before the user's next message holds from that message on: the
-- hash of all messages up to the one that was the last. NULL: it holds at once.
ALTER TABLE resets ADD COLUMN behind BLOB;
-- JSON: what stands in its place, for receipts.
ALTER TABLE resets ADD COLUMN receipt TEXT NOT NULL DEFAULT '';
