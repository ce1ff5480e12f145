-- The outbox: notices that are owed, stored with what they tell of.
CREATE TABLE notices (
  seq          INTEGER PRIMARY KEY,
  id           TEXT NOT NULL UNIQUE,
  notifier     TEXT NOT NULL,
  state        TEXT NOT NULL,
  namespace    TEXT,
  flow         TEXT,
  execution_id TEXT,
  content      TEXT NOT NULL,
  -- those of one topic go out together; gap is the time between two of them
  topic        TEXT,
  gap          INTEGER,
  created_at   INTEGER NOT NULL,
  -- when it is to be sent; NULL once it is settled
  due_at       INTEGER,
  settled_at   INTEGER,
  -- the id it is sent under, alone or with others; given with the first claim, never changed
  delivery_id  TEXT,
  claimed      INTEGER NOT NULL DEFAULT 0,
  fence        INTEGER NOT NULL DEFAULT 0,
  attempts     INTEGER NOT NULL DEFAULT 0,
  -- how often in a row the hub went down while it was being sent
  crashes      INTEGER NOT NULL DEFAULT 0,
  error        TEXT,
  progress     TEXT
);
CREATE INDEX notices_due ON notices (notifier, due_at, seq) WHERE state = 'owed' AND claimed = 0;
CREATE INDEX notices_topics ON notices (notifier, topic, seq) WHERE state = 'owed' AND delivery_id IS NULL;
CREATE INDEX notices_deliveries ON notices (delivery_id) WHERE delivery_id IS NOT NULL;
CREATE INDEX notices_by_execution ON notices (execution_id) WHERE execution_id IS NOT NULL;
CREATE INDEX notices_by_state ON notices (state);
CREATE INDEX notices_past ON notices (settled_at) WHERE settled_at IS NOT NULL;

-- from when the next of a topic may go out, where it has a gap
CREATE TABLE notice_topics (
  notifier TEXT NOT NULL,
  topic    TEXT NOT NULL,
  open_at  INTEGER NOT NULL,
  PRIMARY KEY (notifier, topic)
) WITHOUT ROWID;

-- receivers that want nothing any more
CREATE TABLE disabled_notifiers (
  name   TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  at     INTEGER NOT NULL
) WITHOUT ROWID;
