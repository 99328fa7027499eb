-- A cancel that comes while an email is under way, in doubt or dead cannot undo that, but no further attempt may follow it.
ALTER TABLE email_jobs ADD COLUMN cancel_asked_at timestamptz;
