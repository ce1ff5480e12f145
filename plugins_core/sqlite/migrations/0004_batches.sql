-- Events that wait for a batch: NULL for most, '' while one waits, then the event that took it up.
ALTER TABLE events ADD COLUMN batch TEXT;
CREATE INDEX events_waiting ON events (namespace, flow, trigger, seq) WHERE batch = '';
