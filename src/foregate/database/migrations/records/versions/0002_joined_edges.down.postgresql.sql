DROP TABLE feed_authority;
DROP TABLE edge_join_tokens;
DROP TABLE edge_certificates;

DROP INDEX edges_name;
DELETE FROM edges WHERE key_digest IS NULL;
-- An expelled edge's name may have been given again: the one that lives keeps it.
UPDATE edges SET name = name || ' ' || id WHERE revoked_at IS NOT NULL;
ALTER TABLE edges DROP CONSTRAINT edge_shows_itself_in_one_way;
ALTER TABLE edges DROP CONSTRAINT edge_key_digest_form;
ALTER TABLE edges DROP COLUMN sealing_key;
ALTER TABLE edges DROP COLUMN secrets_mark;
ALTER TABLE edges DROP COLUMN group_name;
ALTER TABLE edges ALTER COLUMN key_digest SET NOT NULL;
ALTER TABLE edges ADD CONSTRAINT edge_key_digest_form CHECK (octet_length(key_digest) = 32);
ALTER TABLE edges ADD CONSTRAINT edges_name_key UNIQUE (name);
