-- Redrive runs, and webhooks that go out.
SELECT 1;
