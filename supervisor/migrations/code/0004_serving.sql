-- Two embedders at a time: one whose vectors are searched, and one that makes others
-- in their place.

-- 1 once every text had a vector of this one, until every text has one of another.
ALTER TABLE embedders ADD COLUMN whole INTEGER NOT NULL DEFAULT 0;

UPDATE embedders SET whole = 1
WHERE id = (SELECT embedder FROM vector_blocks GROUP BY embedder ORDER BY sum(live) DESC LIMIT 1)
  AND (current = 0 OR NOT EXISTS (SELECT 1 FROM unembedded));
