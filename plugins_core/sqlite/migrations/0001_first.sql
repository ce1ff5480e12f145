-- Moments are whole microseconds since 1970 in UTC. Payload columns hold the JSON text as it was written.

CREATE TABLE flows (
  namespace   TEXT NOT NULL,
  id          TEXT NOT NULL,
  revision    INTEGER NOT NULL,
  source_hash TEXT NOT NULL,
  origin      TEXT,
  disabled    INTEGER NOT NULL,
  summary     TEXT NOT NULL,
  updated_at  INTEGER NOT NULL,
  retired_at  INTEGER,
  PRIMARY KEY (namespace, id)
) WITHOUT ROWID;

CREATE TABLE flow_revisions (
  namespace  TEXT NOT NULL,
  id         TEXT NOT NULL,
  revision   INTEGER NOT NULL,
  source     TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (namespace, id, revision)
);

CREATE TABLE events (
  seq         INTEGER PRIMARY KEY,
  id          TEXT NOT NULL UNIQUE,
  source      TEXT NOT NULL,
  type        TEXT NOT NULL,
  time        INTEGER NOT NULL,
  subject     TEXT,
  namespace   TEXT NOT NULL,
  flow        TEXT NOT NULL,
  trigger     TEXT NOT NULL,
  depth       INTEGER NOT NULL,
  received_at INTEGER NOT NULL,
  data        TEXT NOT NULL,
  verdicts    TEXT NOT NULL
);
CREATE INDEX events_by_flow ON events (namespace, flow);

-- Known deliveries, apart from the retention of events; the primary key is what makes a repeat known.
CREATE TABLE delivery_keys (
  scope      TEXT NOT NULL,
  key        TEXT NOT NULL,
  body_hash  TEXT NOT NULL,
  event_id   TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX delivery_keys_by_expiry ON delivery_keys (expires_at);

CREATE TABLE executions (
  seq            INTEGER PRIMARY KEY,
  id             TEXT NOT NULL UNIQUE,
  namespace      TEXT NOT NULL,
  flow           TEXT NOT NULL,
  revision       INTEGER NOT NULL,
  state          TEXT NOT NULL,
  trigger        TEXT,
  event_id       TEXT,
  inputs         TEXT NOT NULL,
  labels         TEXT NOT NULL,
  outputs        TEXT,
  error          TEXT,
  created_at     INTEGER NOT NULL,
  started_at     INTEGER,
  ended_at       INTEGER,
  -- the claim: claimed 1 while this node moves it, fence goes up with each claim
  claimed        INTEGER NOT NULL,
  fence          INTEGER NOT NULL,
  -- from when it may be claimed; NULL while it is claimed, queued or ended
  ready_at       INTEGER,
  wake_at        INTEGER,
  progress       INTEGER NOT NULL DEFAULT 0,
  suspect        INTEGER NOT NULL DEFAULT 0,
  suspect_starts INTEGER NOT NULL DEFAULT 0,
  queue          TEXT,
  queue_limit    INTEGER
);
-- one execution per event and matching trigger
CREATE UNIQUE INDEX executions_by_event ON executions (event_id, namespace, flow, trigger) WHERE event_id IS NOT NULL;
CREATE INDEX executions_by_flow ON executions (namespace, flow);
CREATE INDEX executions_ready ON executions (suspect, ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX executions_live ON executions (state) WHERE ended_at IS NULL;
CREATE INDEX executions_queue ON executions (queue, state, seq) WHERE queue IS NOT NULL AND ended_at IS NULL;

CREATE TABLE task_runs (
  seq          INTEGER PRIMARY KEY,
  execution_id TEXT NOT NULL,
  -- path is scope || name; a scope is one loop iteration (each[3]/) or empty
  scope        TEXT NOT NULL,
  name         TEXT NOT NULL,
  task         TEXT NOT NULL,
  type         TEXT NOT NULL,
  state        TEXT NOT NULL,
  attempts     INTEGER NOT NULL,
  outputs      TEXT,
  error        TEXT,
  decisions    TEXT,
  started_at   INTEGER,
  ended_at     INTEGER,
  wake_at      INTEGER,
  UNIQUE (execution_id, scope, name)
);

CREATE TABLE logs (
  seq          INTEGER PRIMARY KEY,
  execution_id TEXT NOT NULL,
  first        INTEGER NOT NULL,
  last         INTEGER NOT NULL,
  lines        TEXT NOT NULL
);
CREATE UNIQUE INDEX logs_by_execution ON logs (execution_id, first);

CREATE TABLE trigger_states (
  namespace TEXT NOT NULL,
  flow      TEXT NOT NULL,
  trigger   TEXT NOT NULL,
  version   INTEGER NOT NULL,
  state     TEXT NOT NULL,
  PRIMARY KEY (namespace, flow, trigger)
) WITHOUT ROWID;
