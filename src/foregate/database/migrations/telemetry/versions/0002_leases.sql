CREATE TABLE leases (
    name TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    holder TEXT NOT NULL,
    taken_at INTEGER NOT NULL,
    asked INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    PRIMARY KEY (name)
);

CREATE TRIGGER lease_epochs_grow BEFORE UPDATE ON leases
WHEN NEW.epoch < OLD.epoch
BEGIN SELECT RAISE(ABORT, 'epochs only grow'); END;
