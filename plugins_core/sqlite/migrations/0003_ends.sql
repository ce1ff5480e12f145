-- What must not outlive its execution is found without reading all of its task runs.
CREATE INDEX task_runs_live ON task_runs (execution_id) WHERE ended_at IS NULL;

-- the flow's variables as they were decided for this execution
ALTER TABLE executions ADD COLUMN variables TEXT;
