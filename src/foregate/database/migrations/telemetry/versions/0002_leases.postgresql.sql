CREATE TABLE leases (
    name TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    taken_at BIGINT NOT NULL,
    asked BIGINT NOT NULL,
    answered BIGINT NOT NULL,
    PRIMARY KEY (name)
);

CREATE TRIGGER lease_epochs_grow BEFORE UPDATE ON leases FOR EACH ROW
WHEN (NEW.epoch < OLD.epoch) EXECUTE FUNCTION refuse('epochs only grow');
