-- Chains of flows, restarts and replays, dead letters, and what live views read.

ALTER TABLE events ADD COLUMN replay_of TEXT;
-- why somebody has to look at it; NULL for most
ALTER TABLE events ADD COLUMN dead TEXT;
-- how often its delivery came again
ALTER TABLE events ADD COLUMN repeats INTEGER NOT NULL DEFAULT 0;
CREATE INDEX events_dead ON events (seq) WHERE dead IS NOT NULL;
CREATE INDEX events_replays ON events (replay_of) WHERE replay_of IS NOT NULL;

ALTER TABLE executions ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
-- the task run that waits for it: killed together, woken by its end
ALTER TABLE executions ADD COLUMN parent_id TEXT;
ALTER TABLE executions ADD COLUMN parent_path TEXT;
ALTER TABLE executions ADD COLUMN replay_of TEXT;
ALTER TABLE executions ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
CREATE INDEX executions_children ON executions (parent_id) WHERE parent_id IS NOT NULL;

-- claims are shared out over the namespaces; the earliest wake-up is asked for often
DROP INDEX executions_ready;
CREATE INDEX executions_ready ON executions (suspect, namespace, ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX executions_wake ON executions (ready_at) WHERE ready_at IS NOT NULL;
-- lists by state, over a million of them
CREATE INDEX executions_past ON executions (state) WHERE ended_at IS NOT NULL;

-- one row per commit that changed what live views show; the number follows the order of the commits
CREATE TABLE changes (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  at     INTEGER NOT NULL,
  items  TEXT NOT NULL
);
