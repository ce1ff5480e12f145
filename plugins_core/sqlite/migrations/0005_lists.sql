-- Lists over a million executions: each index is in the order of the list, and holds the moment as well, so that a
-- filter that few fit, a count, or one far in the past reads no row that it does not show.

DROP INDEX executions_by_flow;
DROP INDEX executions_past;
CREATE INDEX executions_by_time ON executions (created_at);
CREATE INDEX executions_by_namespace ON executions (namespace, seq, created_at);
CREATE INDEX executions_by_flow ON executions (namespace, flow, seq, created_at);
CREATE INDEX executions_by_flow_id ON executions (flow, seq, created_at);
CREATE INDEX executions_past ON executions (state, seq, created_at) WHERE ended_at IS NOT NULL;
CREATE INDEX executions_past_by_namespace ON executions (namespace, state, seq, created_at) WHERE ended_at IS NOT NULL;

CREATE TABLE execution_labels (
  name       TEXT NOT NULL,
  value      TEXT NOT NULL,
  seq        INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (name, value, seq)
) WITHOUT ROWID;
INSERT INTO execution_labels
  SELECT l.key, l.value, e.seq, e.created_at FROM executions e, json_each(e.labels) l WHERE e.labels <> '{}' ORDER BY 1, 2, 3;
