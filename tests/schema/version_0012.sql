-- A small platform and its ledger as version 0012 left them: jobs in every state, chunks that are waiting, claimed by a
-- worker that died, closed whole or split, attempts at letters (`redrives`), outcomes, letters, people, receipts, a run,
-- tokens and a source of HR events. test_upgrade.py loads it into a database of that version and migrates it.
-- The rows refer to each other in a circle (chunks and letters), so keys and triggers are looked at only afterwards.
SET session_replication_role = replica;

INSERT INTO lms.organisations
    (id, name, timezone)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 'Acme', 'UTC'),
    (2, 'Other', 'UTC');

INSERT INTO lms.learners
    (id, organisation_id, external_id, active)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 'SERIES-1-1', true),
    (2, 1, 'SERIES-1-2', true),
    (3, 1, 'SERIES-1-3', true),
    (4, 1, 'SERIES-1-4', true),
    (5, 1, 'SERIES-1-5', true),
    (6, 1, 'p0', true),
    (7, 1, 'p1', true),
    (8, 1, 'p2', true),
    (9, 1, 'p3', true),
    (10, 1, 'odd', true),
    (11, 1, 'end', true),
    (12, 1, 'SERIES-2-1', true),
    (13, 1, 'SERIES-2-2', true),
    (14, 1, 'anna', false),
    (17, 1, 'bea', true),
    (18, 1, 'cem', true),
    (19, 1, 'SERIES-3-1', true),
    (20, 1, 'SERIES-3-2', true),
    (21, 1, 'SERIES-3-3', true),
    (22, 1, 'SERIES-4-1', true),
    (23, 1, 'SERIES-4-2', true),
    (24, 1, 'SERIES-4-3', true),
    (25, 1, 'SERIES-4-4', true),
    (26, 1, 'SERIES-4-5', true),
    (27, 1, 'SERIES-5-1', true),
    (28, 1, 'SERIES-5-2', true),
    (29, 1, 'SERIES-6-1', true),
    (30, 1, 'SERIES-6-2', true),
    (31, 1, 'SERIES-6-3', true),
    (32, 1, 'SERIES-7-1', true),
    (33, 1, 'SERIES-7-2', true),
    (34, 1, 'SERIES-7-3', true),
    (35, 1, 'SERIES-7-4', true),
    (36, 1, 'SERIES-8-1', true),
    (37, 1, 'SERIES-8-2', true),
    (38, 1, 'SERIES-8-3', true),
    (39, 1, 'SERIES-8-4', true),
    (40, 1, 'SERIES-9-1', true),
    (41, 1, 'SERIES-9-2', true),
    (42, 1, 'SERIES-9-3', true),
    (43, 2, 'eve', true);

INSERT INTO lms.series
    (id, organisation_id, code, title)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 'SERIES-1', 'SERIES-1'),
    (2, 1, 'SERIES-10', 'SERIES-10'),
    (3, 1, 'SERIES-11', 'SERIES-11'),
    (4, 1, 'SERIES-12', 'SERIES-12'),
    (5, 1, 'SERIES-13', 'SERIES-13'),
    (6, 1, 'SERIES-14', 'SERIES-14'),
    (7, 1, 'SERIES-15', 'SERIES-15'),
    (8, 1, 'SERIES-2', 'SERIES-2'),
    (9, 1, 'SERIES-16', 'SERIES-16'),
    (10, 1, 'SERIES-17', 'SERIES-17'),
    (11, 1, 'SERIES-18', 'SERIES-18'),
    (12, 1, 'SERIES-19', 'SERIES-19'),
    (13, 1, 'SERIES-20', 'SERIES-20'),
    (14, 1, 'SERIES-3', 'SERIES-3'),
    (15, 1, 'SERIES-4', 'SERIES-4'),
    (16, 1, 'SERIES-5', 'SERIES-5'),
    (17, 1, 'SERIES-6', 'SERIES-6'),
    (18, 1, 'SERIES-7', 'SERIES-7'),
    (19, 1, 'SERIES-8', 'SERIES-8'),
    (20, 1, 'SERIES-9', 'SERIES-9'),
    (21, 2, 'SERIES-21', 'SERIES-21');

INSERT INTO lms.pathways
    (id, organisation_id, title)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 'Onboarding');

INSERT INTO lms.enrolments
    (id, organisation_id, learner_id, series_id, pathway_id, status, enrolled_at, progress, withdrawn_at, withdrawal_reason, withdrawn_by)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 1, 1, NULL, 'in_progress', '2026-11-25 03:30:11.565512+00', '0.5', NULL, NULL, NULL),
    (2, 1, 2, 1, NULL, 'in_progress', '2026-11-25 03:30:11.565512+00', 0, NULL, NULL, NULL),
    (3, 1, 3, 1, NULL, 'in_progress', '2026-11-25 03:30:11.565512+00', 0, NULL, NULL, NULL),
    (4, 1, 4, 1, NULL, 'in_progress', '2026-11-25 03:30:11.565512+00', 0, NULL, NULL, NULL),
    (5, 1, 5, 1, NULL, 'in_progress', '2026-11-25 03:30:11.565512+00', 0, NULL, NULL, NULL),
    (6, 1, 6, 2, 1, 'withdrawn', '2026-11-25 03:30:11.732312+00', 0, '2026-11-25 03:30:12.39907+00', 'learner_declined', 'test:admin'),
    (7, 1, 7, 3, 1, 'in_progress', '2026-11-25 03:30:11.7342+00', 0, NULL, NULL, NULL),
    (8, 1, 8, 4, 1, 'in_progress', '2026-11-25 03:30:11.744084+00', 0, NULL, NULL, NULL),
    (9, 1, 9, 5, 1, 'in_progress', '2026-11-25 03:30:11.745635+00', 0, NULL, NULL, NULL),
    (10, 1, 10, 6, NULL, 'on_hold', '2026-11-25 03:30:11.747137+00', 0, NULL, NULL, NULL),
    (11, 1, 11, 7, NULL, 'mastered', '2026-11-25 03:30:11.755805+00', 0, NULL, NULL, NULL),
    (12, 1, 12, 8, NULL, 'withdrawn', '2026-11-25 03:30:11.757987+00', 0, '2026-11-25 03:30:11.807942+00', 'learner_declined', 'test:admin'),
    (13, 1, 13, 8, NULL, 'withdrawn', '2026-11-25 03:30:11.757987+00', 0, '2026-11-25 03:30:11.807942+00', 'learner_declined', 'test:admin'),
    (14, 1, 14, 9, NULL, 'withdrawn', '2026-11-25 03:30:11.913566+00', 0, '2026-11-25 03:30:12.086893+00', 'user_deactivated', 'test:admin'),
    (15, 1, 14, 10, 1, 'in_progress', '2026-11-25 03:30:11.919569+00', 0, NULL, NULL, NULL),
    (16, 1, 14, 11, NULL, 'incomplete', '2026-11-25 03:30:11.932788+00', 0, NULL, NULL, NULL),
    (17, 1, 17, 12, NULL, 'in_progress', '2026-11-25 03:30:12.126567+00', 0, NULL, NULL, NULL),
    (18, 1, 18, 13, NULL, 'in_progress', '2026-11-25 03:30:12.225182+00', 0, NULL, NULL, NULL),
    (19, 1, 19, 14, NULL, 'withdrawn', '2026-11-25 03:30:12.4545+00', 0, '2026-11-25 03:30:12.584867+00', 'not_required', 'test:admin'),
    (20, 1, 20, 14, NULL, 'in_progress', '2026-11-25 03:30:12.4545+00', 0, NULL, NULL, NULL),
    (21, 1, 21, 14, NULL, 'withdrawn', '2026-11-25 03:30:12.4545+00', 0, '2026-11-25 03:30:12.944196+00', 'not_required', 'test:admin'),
    (22, 1, 22, 15, NULL, 'in_progress', '2026-11-25 03:30:13.28392+00', 0, NULL, NULL, NULL),
    (23, 1, 23, 15, NULL, 'in_progress', '2026-11-25 03:30:13.28392+00', 0, NULL, NULL, NULL),
    (24, 1, 24, 15, NULL, 'in_progress', '2026-11-25 03:30:13.28392+00', 0, NULL, NULL, NULL),
    (25, 1, 25, 15, NULL, 'in_progress', '2026-11-25 03:30:13.28392+00', 0, NULL, NULL, NULL),
    (26, 1, 26, 15, NULL, 'in_progress', '2026-11-25 03:30:13.28392+00', 0, NULL, NULL, NULL),
    (27, 1, 27, 16, NULL, 'in_progress', '2026-11-25 03:30:13.376712+00', 0, NULL, NULL, NULL),
    (28, 1, 28, 16, NULL, 'in_progress', '2026-11-25 03:30:13.376712+00', 0, NULL, NULL, NULL),
    (29, 1, 29, 17, NULL, 'in_progress', '2026-11-25 03:30:13.410969+00', 0, NULL, NULL, NULL),
    (30, 1, 30, 17, NULL, 'in_progress', '2026-11-25 03:30:13.410969+00', 0, NULL, NULL, NULL),
    (31, 1, 31, 17, NULL, 'in_progress', '2026-11-25 03:30:13.410969+00', 0, NULL, NULL, NULL),
    (32, 1, 32, 18, NULL, 'in_progress', '2026-11-25 03:30:13.507041+00', 0, NULL, NULL, NULL),
    (33, 1, 33, 18, NULL, 'in_progress', '2026-11-25 03:30:13.507041+00', 0, NULL, NULL, NULL),
    (34, 1, 34, 18, NULL, 'in_progress', '2026-11-25 03:30:13.507041+00', 0, NULL, NULL, NULL),
    (35, 1, 35, 18, NULL, 'in_progress', '2026-11-25 03:30:13.507041+00', 0, NULL, NULL, NULL),
    (36, 1, 36, 19, NULL, 'withdrawn', '2026-11-25 03:30:13.586783+00', 0, '2026-11-25 03:30:13.648191+00', 'not_required', 'test:admin'),
    (37, 1, 37, 19, NULL, 'withdrawn', '2026-11-25 03:30:13.586783+00', 0, '2026-11-25 03:30:13.648191+00', 'not_required', 'test:admin'),
    (38, 1, 38, 19, NULL, 'in_progress', '2026-11-25 03:30:13.586783+00', 0, NULL, NULL, NULL),
    (39, 1, 39, 19, NULL, 'in_progress', '2026-11-25 03:30:13.586783+00', 0, NULL, NULL, NULL),
    (40, 1, 40, 20, NULL, 'in_progress', '2026-11-25 03:30:13.692266+00', 0, NULL, NULL, NULL),
    (41, 1, 41, 20, NULL, 'in_progress', '2026-11-25 03:30:13.692266+00', 0, NULL, NULL, NULL),
    (42, 1, 42, 20, NULL, 'in_progress', '2026-11-25 03:30:13.692266+00', 0, NULL, NULL, NULL),
    (43, 2, 43, 21, NULL, 'in_progress', '2026-11-25 03:30:13.866965+00', 0, NULL, NULL, NULL);

INSERT INTO withdrawals.attempts
    (id, chunk_id, token, result, started_at, ended_at, error_class, message, fingerprint)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 11, '54ea8ad9-dffe-45d8-873c-a087c70ed2eb', 'failed', '2026-11-25 03:30:12.505964+00', '2026-11-25 03:30:12.542282+00', 'RaiseException', 'the database refused a value (SQLSTATE P0001): in PL/pgSQL function no() line 1 at RAISE', '283164ddd70f'),
    (2, 13, '37e6cf91-8a5d-4b9d-830c-683be3275417', 'failed', '2026-11-25 03:30:12.635226+00', '2026-11-25 03:30:12.660759+00', 'RaiseException', 'the database refused a value (SQLSTATE P0001): in PL/pgSQL function no() line 1 at RAISE', '283164ddd70f'),
    (3, 14, '8f76ff11-e67c-4983-b608-030b8015f384', 'failed', '2026-11-25 03:30:12.737469+00', '2026-11-25 03:30:12.792689+00', 'RaiseException', 'the database refused a value (SQLSTATE P0001): in PL/pgSQL function no() line 1 at RAISE', '283164ddd70f'),
    (4, 14, 'a36c8a27-40cd-4af2-8731-b1375c9d5743', 'failed', '2026-11-25 03:30:12.848924+00', '2026-11-25 03:30:12.887008+00', 'RaiseException', 'the database refused a value (SQLSTATE P0001): in PL/pgSQL function no() line 1 at RAISE', '283164ddd70f'),
    (5, 16, 'ed639aca-a593-4d1f-9e8c-fed849e94fbf', 'vanished', '2026-11-25 03:30:13.088302+00', '2026-11-25 03:30:13.119351+00', 'Vanished', 'The worker that had claimed it was not heard of again.', 'vanished');

INSERT INTO withdrawals.audit
    (id, at, organisation_id, actor, action, job_id, dead_letter_id, note, detail)
    OVERRIDING SYSTEM VALUE VALUES
    (1, '2026-11-25 03:30:11.640094+00', 1, 'test:admin', 'job.submit', 1, NULL, NULL, '{}'),
    (2, '2026-11-25 03:30:11.763667+00', 1, 'test:admin', 'job.submit', 2, NULL, NULL, '{}'),
    (3, '2026-11-25 03:30:11.89603+00', 1, 'token:mia', 'source.create', NULL, NULL, NULL, '{}'),
    (4, '2026-11-25 03:30:11.937153+00', 1, 'test:admin', 'user.deactivated', NULL, NULL, NULL, '{"source": "workday", "external_id": "anna"}'),
    (5, '2026-11-25 03:30:12.043881+00', 1, 'test:admin', 'user.deactivated', NULL, NULL, NULL, '{"source": "workday", "external_id": "zoe"}'),
    (6, '2026-11-25 03:30:12.133759+00', 1, 'test:admin', 'user.deactivated', NULL, NULL, NULL, '{"source": "workday", "external_id": "bea"}'),
    (7, '2026-11-25 03:30:12.17447+00', 1, 'test:admin', 'user.reactivated', NULL, NULL, NULL, '{"source": "workday", "external_id": "bea"}'),
    (8, '2026-11-25 03:30:12.236468+00', 1, 'test:admin', 'user.deactivated', NULL, NULL, NULL, '{"source": "workday", "external_id": "cem"}'),
    (9, '2026-11-25 03:30:12.306642+00', 1, 'token:mia', 'dead_letter.override', 2, 1, 'agreed', '{"act": "key-1", "code": "pathway_owned"}'),
    (10, '2026-11-25 03:30:12.348341+00', 1, 'token:mia', 'dead_letter.redrive', 2, 2, NULL, '{"act": "key-2", "code": "pathway_owned"}'),
    (11, '2026-11-25 03:30:12.39907+00', 1, 'token:mia', 'outcome.replaced', 2, 1, NULL, '{"after": "withdrawn", "before": "pathway_owned", "enrolment_id": 6}'),
    (12, '2026-11-25 03:30:12.442574+00', 1, 'token:mia', 'dead_letter.discard', 2, 6, 'a typing error', '{"act": "key-3", "code": "not_found"}'),
    (13, '2026-11-25 03:30:12.478802+00', 1, 'test:admin', 'job.submit', 7, NULL, NULL, '{}'),
    (14, '2026-11-25 03:30:13.013066+00', 1, 'token:mia', 'job.reinstate', 8, NULL, NULL, '{}'),
    (15, '2026-11-25 03:30:13.291793+00', 1, 'test:admin', 'job.submit', 9, NULL, NULL, '{}'),
    (16, '2026-11-25 03:30:13.344221+00', 1, 'token:mia', 'job.cancel', 9, NULL, NULL, '{}'),
    (17, '2026-11-25 03:30:13.387801+00', 1, 'test:admin', 'job.submit', 10, NULL, NULL, '{}'),
    (18, '2026-11-25 03:30:13.418778+00', 1, 'test:admin', 'job.submit', 11, NULL, NULL, '{}'),
    (19, '2026-11-25 03:30:13.458788+00', 1, 'token:mia', 'job.pause', 11, NULL, 'wait', '{}'),
    (20, '2026-11-25 03:30:13.483426+00', 1, 'token:mia', 'brake.set', NULL, NULL, NULL, '{"after": {"floor": 1, "hours": null, "share": 0.01}, "before": {"floor": null, "hours": null, "share": null}}'),
    (21, '2026-11-25 03:30:13.512178+00', 1, 'test:admin', 'job.submit', 12, NULL, NULL, '{}'),
    (22, '2026-11-25 03:30:13.567922+00', 1, 'token:mia', 'brake.set', NULL, NULL, NULL, '{"after": {"floor": 1000, "hours": null, "share": 0.5}, "before": {"floor": 1, "hours": null, "share": 0.01}}'),
    (23, '2026-11-25 03:30:13.595609+00', 1, 'test:admin', 'job.submit', 13, NULL, NULL, '{}'),
    (24, '2026-11-25 03:30:13.70389+00', 1, 'test:admin', 'job.submit', 14, NULL, NULL, '{}'),
    (25, '2026-11-25 03:30:13.726858+00', 1, 'token:mia', 'dead_letter.redrive', 2, 3, 'again', '{"act": "key-4", "code": "pathway_owned"}'),
    (26, '2026-11-25 03:30:13.750763+00', 1, 'cli:root', 'token.create', NULL, NULL, NULL, '{}'),
    (27, '2026-11-25 03:30:13.759172+00', 1, 'cli:root', 'token.create', NULL, NULL, NULL, '{}'),
    (28, '2026-11-25 03:30:13.760963+00', 1, 'cli:root', 'token.revoke', NULL, NULL, NULL, '{}'),
    (29, '2026-11-25 03:30:13.780626+00', 1, 'token:mia', 'run.start', NULL, NULL, 'agreed', '{"act": "redrive", "run": 1}'),
    (30, '2026-11-25 03:30:13.82722+00', 1, 'token:mia', 'webhook.create', NULL, NULL, NULL, '{}');

INSERT INTO withdrawals.brake_volume
    (organisation_id, minute, jobs, redrives)
    OVERRIDING SYSTEM VALUE VALUES
    (1, '2026-11-25 03:30:00+00', 33, 3);

INSERT INTO withdrawals.chunks
    (id, job_id, organisation_id, number, lane, enrolment_ids, learner_external_id, size, state, run_after, token, claimed_at, lease_until, attempts, claims, alone, override, redrives, dead_letter_id, asked_by, parent_id, counts, created_at, closed_at, override_pathway, remedy)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 1, 0, 2, '{1,2}', NULL, 2, 'done', '2026-11-25 03:30:11.640094+00', 'f593281d-1bdb-49f9-b3dc-ab1acf53adfd', '2026-11-25 03:30:11.801728+00', NULL, 0, 1, false, false, NULL, NULL, NULL, NULL, '{"withdrawn": 2}', '2026-11-25 03:30:11.640094+00', '2026-11-25 03:30:11.807942+00', NULL, NULL),
    (2, 1, 1, 1, 2, '{3,4}', NULL, 2, 'done', '2026-11-25 03:30:11.640094+00', 'f593281d-1bdb-49f9-b3dc-ab1acf53adfd', '2026-11-25 03:30:11.801962+00', NULL, 0, 1, false, false, NULL, NULL, NULL, NULL, '{"withdrawn": 2}', '2026-11-25 03:30:11.640094+00', '2026-11-25 03:30:11.807942+00', NULL, NULL),
    (3, 1, 1, 2, 2, '{5}', NULL, 1, 'done', '2026-11-25 03:30:11.640094+00', 'f593281d-1bdb-49f9-b3dc-ab1acf53adfd', '2026-11-25 03:30:11.801973+00', NULL, 0, 1, false, false, NULL, NULL, NULL, NULL, '{"withdrawn": 1}', '2026-11-25 03:30:11.640094+00', '2026-11-25 03:30:11.807942+00', NULL, NULL),
    (4, 2, 1, 0, 2, '{6,7,8,9,10,11,12,13,999999}', NULL, 9, 'done', '2026-11-25 03:30:11.763667+00', 'f593281d-1bdb-49f9-b3dc-ab1acf53adfd', '2026-11-25 03:30:11.801979+00', NULL, 0, 1, false, false, NULL, NULL, NULL, NULL, '{"not_found": 1, "withdrawn": 2, "pathway_owned": 4, "unknown_status": 1, "enrolment_ended": 1}', '2026-11-25 03:30:11.763667+00', '2026-11-25 03:30:11.807942+00', NULL, NULL),
    (5, 3, 1, 0, 0, NULL, 'anna', 2, 'done', '2026-11-25 03:30:11.937153+00', 'd3380278-fb19-43dd-b734-b158458480f4', '2026-11-25 03:30:12.085438+00', NULL, 0, 1, false, false, NULL, NULL, NULL, NULL, '{"withdrawn": 1, "pathway_owned": 1}', '2026-11-25 03:30:11.937153+00', '2026-11-25 03:30:12.086893+00', NULL, NULL),
    (6, 4, 1, 0, 0, NULL, 'zoe', 1, 'failed', '2026-11-25 03:30:12.043881+00', 'd3380278-fb19-43dd-b734-b158458480f4', '2026-11-25 03:30:12.085538+00', NULL, 0, 1, false, false, NULL, 7, NULL, NULL, '{"failed": 1}', '2026-11-25 03:30:12.043881+00', '2026-11-25 03:30:12.086893+00', NULL, NULL),
    (7, 5, 1, 0, 0, NULL, 'bea', 1, 'superseded', '2026-11-25 03:30:12.133759+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{"superseded": 1}', '2026-11-25 03:30:12.133759+00', '2026-11-25 03:30:12.17447+00', NULL, NULL),
    (8, 6, 1, 0, 0, NULL, 'cem', 1, 'waiting', '2026-11-25 03:30:12.236468+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{}', '2026-11-25 03:30:12.236468+00', NULL, NULL, NULL),
    (9, 2, 1, 0, 1, '{6}', NULL, 1, 'done', '2026-11-25 03:30:12.306642+00', '85e897c0-da23-4103-8821-fad92474210a', '2026-11-25 03:30:12.386273+00', NULL, 0, 1, false, true, 1, NULL, 'token:mia', NULL, '{"withdrawn": 1, "pathway_owned": -1}', '2026-11-25 03:30:12.306642+00', '2026-11-25 03:30:12.39907+00', 1, 'override'),
    (10, 2, 1, 0, 1, '{7}', NULL, 1, 'done', '2026-11-25 03:30:12.348341+00', '85e897c0-da23-4103-8821-fad92474210a', '2026-11-25 03:30:12.386411+00', NULL, 0, 1, false, false, 2, NULL, 'token:mia', NULL, '{}', '2026-11-25 03:30:12.348341+00', '2026-11-25 03:30:12.39907+00', NULL, NULL),
    (11, 7, 1, 0, 2, '{19,20,21}', NULL, 3, 'split', '2026-11-25 03:30:12.497308+00', '54ea8ad9-dffe-45d8-873c-a087c70ed2eb', '2026-11-25 03:30:12.505964+00', NULL, 0, 1, false, false, NULL, NULL, NULL, NULL, '{}', '2026-11-25 03:30:12.478802+00', '2026-11-25 03:30:12.542282+00', NULL, NULL),
    (12, 7, 1, 0, 2, '{19}', NULL, 1, 'done', '2026-11-25 03:30:12.567102+00', 'e1b74f59-2b09-49ee-8ce6-cdab6e0a2a17', '2026-11-25 03:30:12.58064+00', NULL, 0, 1, true, false, NULL, NULL, NULL, 11, '{"withdrawn": 1}', '2026-11-25 03:30:12.542282+00', '2026-11-25 03:30:12.584867+00', NULL, NULL),
    (13, 7, 1, 0, 2, '{20,21}', NULL, 2, 'split', '2026-11-25 03:30:12.567102+00', '37e6cf91-8a5d-4b9d-830c-683be3275417', '2026-11-25 03:30:12.635226+00', NULL, 0, 1, true, false, NULL, NULL, NULL, 11, '{}', '2026-11-25 03:30:12.542282+00', '2026-11-25 03:30:12.660759+00', NULL, NULL),
    (14, 7, 1, 0, 2, '{20}', NULL, 1, 'done', '2026-11-25 03:30:12.79324+00', 'a36c8a27-40cd-4af2-8731-b1375c9d5743', '2026-11-25 03:30:12.848924+00', NULL, 1, 1, true, false, NULL, NULL, NULL, 13, '{"failed": 1}', '2026-11-25 03:30:12.660759+00', '2026-11-25 03:30:12.887008+00', NULL, NULL),
    (15, 7, 1, 0, 2, '{21}', NULL, 1, 'done', '2026-11-25 03:30:12.716314+00', '9c5dcfc5-6c4d-4716-be99-b1fdf29af3ad', '2026-11-25 03:30:12.939329+00', NULL, 0, 1, true, false, NULL, NULL, NULL, 13, '{"withdrawn": 1}', '2026-11-25 03:30:12.660759+00', '2026-11-25 03:30:12.944196+00', NULL, NULL),
    (16, 8, 1, 0, 2, '{1,2}', NULL, 2, 'done', '2026-11-25 03:30:13.119351+00', '71f0086d-ff32-4280-8305-5fe34901f0ae', '2026-11-25 03:30:13.173379+00', NULL, 0, 2, true, false, NULL, NULL, NULL, NULL, '{"reinstated": 2}', '2026-11-25 03:30:13.013066+00', '2026-11-25 03:30:13.187353+00', NULL, NULL),
    (17, 8, 1, 1, 2, '{3,4}', NULL, 2, 'done', '2026-11-25 03:30:13.013066+00', '21e45d0c-3348-4998-b88e-2de8bfe26306', '2026-11-25 03:30:13.233615+00', NULL, 0, 1, false, false, NULL, NULL, NULL, NULL, '{"reinstated": 2}', '2026-11-25 03:30:13.013066+00', '2026-11-25 03:30:13.244373+00', NULL, NULL),
    (18, 8, 1, 2, 2, '{5}', NULL, 1, 'done', '2026-11-25 03:30:13.013066+00', '21e45d0c-3348-4998-b88e-2de8bfe26306', '2026-11-25 03:30:13.233717+00', NULL, 0, 1, false, false, NULL, NULL, NULL, NULL, '{"reinstated": 1}', '2026-11-25 03:30:13.013066+00', '2026-11-25 03:30:13.244373+00', NULL, NULL),
    (19, 9, 1, 0, 2, '{22,23}', NULL, 2, 'cancelled', '2026-11-25 03:30:13.291793+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{"cancelled": 2}', '2026-11-25 03:30:13.291793+00', '2026-11-25 03:30:13.344221+00', NULL, NULL),
    (20, 9, 1, 1, 2, '{24,25}', NULL, 2, 'cancelled', '2026-11-25 03:30:13.291793+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{"cancelled": 2}', '2026-11-25 03:30:13.291793+00', '2026-11-25 03:30:13.344221+00', NULL, NULL),
    (21, 9, 1, 2, 2, '{26}', NULL, 1, 'cancelled', '2026-11-25 03:30:13.291793+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{"cancelled": 1}', '2026-11-25 03:30:13.291793+00', '2026-11-25 03:30:13.344221+00', NULL, NULL),
    (22, 10, 1, 0, 2, '{27,28}', NULL, 2, 'waiting', '2026-11-25 03:30:13.387801+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{}', '2026-11-25 03:30:13.387801+00', NULL, NULL, NULL),
    (23, 11, 1, 0, 2, '{29,30}', NULL, 2, 'ready', '2026-11-25 03:30:13.418778+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{}', '2026-11-25 03:30:13.418778+00', NULL, NULL, NULL),
    (24, 11, 1, 1, 2, '{31}', NULL, 1, 'ready', '2026-11-25 03:30:13.418778+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{}', '2026-11-25 03:30:13.418778+00', NULL, NULL, NULL),
    (25, 12, 1, 0, 2, '{32,33}', NULL, 2, 'waiting', '2026-11-25 03:30:13.512178+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{}', '2026-11-25 03:30:13.512178+00', NULL, NULL, NULL),
    (26, 12, 1, 1, 2, '{34,35}', NULL, 2, 'waiting', '2026-11-25 03:30:13.512178+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{}', '2026-11-25 03:30:13.512178+00', NULL, NULL, NULL),
    (27, 13, 1, 0, 2, '{36,37}', NULL, 2, 'done', '2026-11-25 03:30:13.595609+00', '5e7cb173-2f15-4b5c-af4c-28c639b2ef49', '2026-11-25 03:30:13.6469+00', NULL, 0, 1, false, false, NULL, NULL, NULL, NULL, '{"withdrawn": 2}', '2026-11-25 03:30:13.595609+00', '2026-11-25 03:30:13.648191+00', NULL, NULL),
    (28, 13, 1, 1, 2, '{38,39}', NULL, 2, 'claimed', '2026-11-25 03:30:13.595609+00', '774d9dd0-0b32-4ba6-97d0-b083eaab35a5', '2026-11-25 03:30:13.689999+00', '2026-11-25 03:30:43.689999+00', 0, 1, false, false, NULL, NULL, NULL, NULL, '{}', '2026-11-25 03:30:13.595609+00', NULL, NULL, NULL),
    (29, 14, 1, 0, 2, '{40,41}', NULL, 2, 'ready', '2026-11-25 03:30:13.70389+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{}', '2026-11-25 03:30:13.70389+00', NULL, NULL, NULL),
    (30, 14, 1, 1, 2, '{42}', NULL, 1, 'ready', '2026-11-25 03:30:13.70389+00', NULL, NULL, NULL, 0, 0, false, false, NULL, NULL, NULL, NULL, '{}', '2026-11-25 03:30:13.70389+00', NULL, NULL, NULL),
    (31, 2, 1, 0, 1, '{8}', NULL, 1, 'ready', '2026-11-25 03:30:13.726858+00', NULL, NULL, NULL, 0, 0, false, false, 3, NULL, 'token:mia', NULL, '{}', '2026-11-25 03:30:13.726858+00', NULL, NULL, NULL);

INSERT INTO withdrawals.dead_letters
    (id, organisation_id, code, state, enrolment_id, learner_external_id, job_id, error_class, message, fingerprint, evidence, opened_at, closed_at, closed_by, remedy)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 'pathway_owned', 'resolved', 6, NULL, 2, NULL, 'A Learning Pathway owns this enrolment; it is not withdrawn directly.', 'pathway_owned:1', '{"status": "in_progress", "pathway_id": 1, "pathway_title": "Onboarding"}', '2026-11-25 03:30:11.807942+00', '2026-11-25 03:30:12.39907+00', 'token:mia', 'override'),
    (2, 1, 'pathway_owned', 'open', 7, NULL, 2, NULL, 'A Learning Pathway owns this enrolment; it is not withdrawn directly.', 'pathway_owned:1', '{"status": "in_progress", "pathway_id": 1, "pathway_title": "Onboarding"}', '2026-11-25 03:30:11.807942+00', NULL, NULL, NULL),
    (3, 1, 'pathway_owned', 'redriven', 8, NULL, 2, NULL, 'A Learning Pathway owns this enrolment; it is not withdrawn directly.', 'pathway_owned:1', '{"status": "in_progress", "pathway_id": 1, "pathway_title": "Onboarding"}', '2026-11-25 03:30:11.807942+00', NULL, NULL, NULL),
    (4, 1, 'pathway_owned', 'open', 9, NULL, 2, NULL, 'A Learning Pathway owns this enrolment; it is not withdrawn directly.', 'pathway_owned:1', '{"status": "in_progress", "pathway_id": 1, "pathway_title": "Onboarding"}', '2026-11-25 03:30:11.807942+00', NULL, NULL, NULL),
    (5, 1, 'unknown_status', 'open', 10, NULL, 2, NULL, 'The status of this enrolment is on neither list; it is never guessed.', 'unknown_status:on_hold', '{"status": "on_hold"}', '2026-11-25 03:30:11.807942+00', NULL, NULL, NULL),
    (6, 1, 'not_found', 'discarded', 999999, NULL, 2, NULL, 'There is no such enrolment in this organisation.', 'not_found', '{}', '2026-11-25 03:30:11.807942+00', '2026-11-25 03:30:12.442574+00', 'token:mia', 'discard'),
    (7, 1, 'unknown_learner', 'open', NULL, 'zoe', 4, NULL, 'The platform does not know this learner yet; tried again once it does.', 'unknown_learner', '{}', '2026-11-25 03:30:12.086893+00', NULL, NULL, NULL),
    (8, 1, 'pathway_owned', 'open', 15, NULL, 3, NULL, 'A Learning Pathway owns this enrolment; it is not withdrawn directly.', 'pathway_owned:1', '{"status": "in_progress", "pathway_id": 1, "pathway_title": "Onboarding"}', '2026-11-25 03:30:12.086893+00', NULL, NULL, NULL),
    (10, 1, 'retries_exhausted', 'open', 20, NULL, 7, 'RaiseException', 'the database refused a value (SQLSTATE P0001): in PL/pgSQL function no() line 1 at RAISE', '283164ddd70f', '{}', '2026-11-25 03:30:12.887008+00', NULL, NULL, NULL);

INSERT INTO withdrawals.endpoints
    (id, organisation_id, url, events, secret, failures, rest_until, created_at, created_by)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 'https://help.example/hooks', '{dead_letter.opened,dead_letter.overdue,job.completed,job.held}', 'gAAAAABrBlZFBJdHWnUpFqoipnX33ktcx9ZRWo36dTfwN8uS5BfMy_hJKw9qK3Xf_fvvi05Qze43xw1ad6WT06ULtpfwia_IYRQDtNVMTVBn4MVJMF7oxbbjfpBRTyiJ20r9rrgM7kI-66L9D7fKcYJstJnhFJCSTA==', 0, '-infinity', '2026-11-25 03:30:13.82722+00', 'token:mia');

INSERT INTO withdrawals.jobs
    (id, organisation_id, kind, reason, source, requested_by, note, door, idempotency_key, request_hash, state, learner_external_id, epoch, accepted, duplicates, created_at, effective_at, admitted_at, finished_at, held_because, learners, brake, reinstates)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 'withdraw', 'not_required', 'bulk', 'test:admin', 'the course was replaced', 'cli', 'key-5', E'\\x424aced0f3a4160c8bb1a6f03a6a5bf32414092b26a8a828165033b47baef638', 'completed', NULL, NULL, 5, 0, '2026-11-25 03:30:11.640094+00', '2026-11-25 03:30:11.640094+00', '2026-11-25 03:30:11.640094+00', '2026-11-25 03:30:11.881519+00', NULL, 5, NULL, NULL),
    (2, 1, 'withdraw', 'learner_declined', 'bulk', 'test:admin', NULL, 'cli', 'key-6', E'\\x268e31d6152fa6e50db164bfd7c5bbda0d5b5bfe40548133e82d643134dff300', 'completed_with_exceptions', NULL, NULL, 9, 0, '2026-11-25 03:30:11.763667+00', '2026-11-25 03:30:11.763667+00', '2026-11-25 03:30:11.763667+00', '2026-11-25 03:30:11.881519+00', NULL, 8, NULL, NULL),
    (3, 1, 'withdraw', 'user_deactivated', 'hr', 'test:admin', NULL, 'hr:workday', 'key-7', E'\\x176de4c45a75a213b76f1fb14fd68a5d1b39d500647f17846872b08c20f125e5', 'completed_with_exceptions', 'anna', 1, 1, 0, '2026-11-25 03:30:11.937153+00', '2026-11-25 03:30:11.937153+00', '2026-11-25 03:30:11.937153+00', '2026-11-25 03:30:12.11688+00', NULL, 1, NULL, NULL),
    (4, 1, 'withdraw', 'user_deactivated', 'hr', 'test:admin', NULL, 'hr:workday', 'key-8', E'\\x1d55b9cefc3fbb9549d694608e0a9b35ba9a163d84b8dc3a700b4f80cc74ca52', 'completed_with_exceptions', 'zoe', 1, 1, 0, '2026-11-25 03:30:12.043881+00', '2026-11-25 03:30:12.043881+00', '2026-11-25 03:30:12.043881+00', '2026-11-25 03:30:12.11688+00', NULL, 1, NULL, NULL),
    (5, 1, 'withdraw', 'user_deactivated', 'hr', 'test:admin', NULL, 'hr:workday', 'key-9', E'\\xfd04d9c80f6e89a11dd936417117196e8f84a792a28fa67866157137534062cb', 'superseded', 'bea', 1, 1, 0, '2026-11-25 03:30:12.133759+00', '2990-01-01 00:00:00+00', NULL, '2026-11-25 03:30:12.17447+00', NULL, NULL, NULL, NULL),
    (6, 1, 'withdraw', 'user_deactivated', 'hr', 'test:admin', NULL, 'hr:workday', 'key-10', E'\\xf2a20acc7369a4e7d9db85e76da34e93dc865e04d409ddf29656d0986e5419db', 'scheduled', 'cem', 1, 1, 0, '2026-11-25 03:30:12.236468+00', '2990-01-01 00:00:00+00', NULL, NULL, NULL, NULL, NULL, NULL),
    (7, 1, 'withdraw', 'not_required', 'bulk', 'test:admin', NULL, 'cli', 'key-11', E'\\xd7f74f27c413ac4d4e121543d7872ee4c95c5c9a28e09877939b245011ae2630', 'completed_with_exceptions', NULL, NULL, 3, 0, '2026-11-25 03:30:12.478802+00', '2026-11-25 03:30:12.478802+00', '2026-11-25 03:30:12.478802+00', '2026-11-25 03:30:12.975711+00', NULL, 3, NULL, NULL),
    (8, 1, 'reinstate', NULL, 'admin', 'token:mia', 'too early', 'console', 'undo', E'\\xf6dcd3e0f9a5e355f72a148212a78510fa8c0b69b7c720a082e0bb659e019ed2', 'completed', NULL, NULL, 5, 0, '2026-11-25 03:30:13.013066+00', '2026-11-25 03:30:13.013066+00', '2026-11-25 03:30:13.013066+00', '2026-11-25 03:30:13.27444+00', NULL, 5, NULL, 1),
    (9, 1, 'withdraw', 'not_required', 'bulk', 'test:admin', NULL, 'cli', 'key-12', E'\\x010a0addd24be1aea450d6c80f65c59c5ec2f1474b8fd1ca537070f75aae7992', 'cancelled', NULL, NULL, 5, 0, '2026-11-25 03:30:13.291793+00', '2026-11-25 03:30:13.291793+00', '2026-11-25 03:30:13.291793+00', '2026-11-25 03:30:13.344221+00', NULL, NULL, NULL, NULL),
    (10, 1, 'withdraw', 'enrolment_error', 'correction', 'test:admin', NULL, 'cli', 'key-13', E'\\x4be94ed876d3258bf2f208ffb7ba685f7b484290edcaeb4d1949a872031652a3', 'scheduled', NULL, NULL, 2, 0, '2026-11-25 03:30:13.387801+00', '2990-01-01 00:00:00+00', NULL, NULL, NULL, NULL, NULL, NULL),
    (11, 1, 'withdraw', 'not_required', 'bulk', 'test:admin', NULL, 'cli', 'key-14', E'\\xc4a36ca9988d272aab58cd048d9031e047412ee6d56fa64b27734161c6385580', 'paused', NULL, NULL, 3, 0, '2026-11-25 03:30:13.418778+00', '2026-11-25 03:30:13.418778+00', '2026-11-25 03:30:13.418778+00', NULL, NULL, 3, NULL, NULL),
    (12, 1, 'withdraw', 'not_required', 'bulk', 'test:admin', NULL, 'cli', 'key-15', E'\\xc22557db0b511ad838ff419f8e03799495e332af50395554435aab0b48cc838e', 'held', NULL, NULL, 4, 0, '2026-11-25 03:30:13.512178+00', '2026-11-25 03:30:13.512178+00', NULL, NULL, 'brake', 4, '{"floor": 1, "hours": 24, "share": 0.01, "before": 28, "learners": 4, "population": 33}', NULL),
    (13, 1, 'withdraw', 'not_required', 'bulk', 'test:admin', NULL, 'cli', 'key-16', E'\\xe789b288405f63d0a868c3e4bece8b871c612b069571838885c095083d001306', 'queued', NULL, NULL, 4, 0, '2026-11-25 03:30:13.595609+00', '2026-11-25 03:30:13.595609+00', '2026-11-25 03:30:13.595609+00', NULL, NULL, 4, NULL, NULL),
    (14, 1, 'withdraw', 'not_required', 'bulk', 'test:admin', NULL, 'cli', 'key-17', E'\\x396e20a8d4f2e5d0390e8abf6335aa6b00a5c81f5eaf4bb0287d4ac94a2346f7', 'queued', NULL, NULL, 3, 0, '2026-11-25 03:30:13.70389+00', '2026-11-25 03:30:13.70389+00', '2026-11-25 03:30:13.70389+00', NULL, NULL, 3, NULL, NULL);

INSERT INTO withdrawals.organisation_settings
    (organisation_id, brake_floor, brake_share, population, passed_at)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1000, '0.5', 33, '2026-11-25 03:30:11.640094+00');

INSERT INTO withdrawals.outcomes
    (job_id, enrolment_id, organisation_id, chunk_id, outcome, prior_status, pathway_id, dead_letter_id, decided_at, reinstated_by)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 1, 1, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:11.807942+00', 8),
    (1, 2, 1, 1, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:11.807942+00', 8),
    (1, 3, 1, 2, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:11.807942+00', 8),
    (1, 4, 1, 2, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:11.807942+00', 8),
    (1, 5, 1, 3, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:11.807942+00', 8),
    (2, 10, 1, 4, 'unknown_status', 'on_hold', NULL, 5, '2026-11-25 03:30:11.807942+00', NULL),
    (2, 11, 1, 4, 'enrolment_ended', 'mastered', NULL, NULL, '2026-11-25 03:30:11.807942+00', NULL),
    (2, 12, 1, 4, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:11.807942+00', NULL),
    (2, 13, 1, 4, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:11.807942+00', NULL),
    (2, 6, 1, 4, 'withdrawn', 'in_progress', 1, 1, '2026-11-25 03:30:12.39907+00', NULL),
    (2, 7, 1, 4, 'pathway_owned', 'in_progress', 1, 2, '2026-11-25 03:30:11.807942+00', NULL),
    (2, 8, 1, 4, 'pathway_owned', 'in_progress', 1, 3, '2026-11-25 03:30:11.807942+00', NULL),
    (2, 9, 1, 4, 'pathway_owned', 'in_progress', 1, 4, '2026-11-25 03:30:11.807942+00', NULL),
    (2, 999999, 1, 4, 'not_found', NULL, NULL, 6, '2026-11-25 03:30:11.807942+00', NULL),
    (3, 14, 1, 5, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:12.086893+00', NULL),
    (3, 15, 1, 5, 'pathway_owned', 'in_progress', 1, 8, '2026-11-25 03:30:12.086893+00', NULL),
    (7, 19, 1, 12, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:12.584867+00', NULL),
    (7, 20, 1, 14, 'failed', NULL, NULL, 10, '2026-11-25 03:30:12.887008+00', NULL),
    (7, 21, 1, 15, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:12.944196+00', NULL),
    (8, 1, 1, 16, 'reinstated', 'withdrawn', NULL, NULL, '2026-11-25 03:30:13.187353+00', NULL),
    (8, 2, 1, 16, 'reinstated', 'withdrawn', NULL, NULL, '2026-11-25 03:30:13.187353+00', NULL),
    (8, 3, 1, 17, 'reinstated', 'withdrawn', NULL, NULL, '2026-11-25 03:30:13.244373+00', NULL),
    (8, 4, 1, 17, 'reinstated', 'withdrawn', NULL, NULL, '2026-11-25 03:30:13.244373+00', NULL),
    (8, 5, 1, 18, 'reinstated', 'withdrawn', NULL, NULL, '2026-11-25 03:30:13.244373+00', NULL),
    (13, 36, 1, 27, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:13.648191+00', NULL),
    (13, 37, 1, 27, 'withdrawn', 'in_progress', NULL, NULL, '2026-11-25 03:30:13.648191+00', NULL);

INSERT INTO withdrawals.person_events
    (organisation_id, external_id, source, type, occurred_at, effective_at)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 'anna', 'workday', 'user.deactivated', '2026-11-25 03:30:11.952792+00', '2026-11-25 03:30:11.952792+00'),
    (1, 'bea', 'workday', 'user.reactivated', '2026-11-25 03:30:12.186952+00', '2026-11-25 03:30:12.186952+00'),
    (1, 'cem', 'workday', 'user.deactivated', '2026-11-25 03:30:12.243855+00', '2990-01-01 00:00:00+00'),
    (1, 'zoe', 'workday', 'user.deactivated', '2026-11-25 03:30:12.058805+00', '2026-11-25 03:30:12.058805+00');

INSERT INTO withdrawals.persons
    (organisation_id, external_id, epoch, active, effective_at, deactivation_due)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 'anna', 1, false, '2026-11-25 03:30:11.952792+00', false),
    (1, 'bea', 2, true, NULL, false),
    (1, 'cem', 1, false, '2990-01-01 00:00:00+00', true),
    (1, 'zoe', 1, false, '2026-11-25 03:30:12.058805+00', true);

INSERT INTO withdrawals.receipts
    (organisation_id, door, idempotency_key, request_hash, status, job_id, received_at, id)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 'hr:workday', 'key-10', E'\\xf2a20acc7369a4e7d9db85e76da34e93dc865e04d409ddf29656d0986e5419db', 'scheduled', 6, '2026-11-25 03:30:12.236468+00', 5),
    (1, 'hr:workday', 'key-9', E'\\xfd04d9c80f6e89a11dd936417117196e8f84a792a28fa67866157137534062cb', 'scheduled', 5, '2026-11-25 03:30:12.133759+00', 3),
    (1, 'hr:workday', 'key-7', E'\\x176de4c45a75a213b76f1fb14fd68a5d1b39d500647f17846872b08c20f125e5', 'accepted', 3, '2026-11-25 03:30:11.937153+00', 1),
    (1, 'hr:workday', 'key-18', E'\\x5046182ce812ee7eda0db154c520dabbe9231827efb17b7008a2f3f7d215c1c1', 'reactivated', NULL, '2026-11-25 03:30:12.17447+00', 4),
    (1, 'hr:workday', 'key-8', E'\\x1d55b9cefc3fbb9549d694608e0a9b35ba9a163d84b8dc3a700b4f80cc74ca52', 'accepted', 4, '2026-11-25 03:30:12.043881+00', 2);

INSERT INTO withdrawals.run_letters
    (run_id, dead_letter_id, fingerprint, canary)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 5, 'unknown_status:on_hold', true);

INSERT INTO withdrawals.runs
    (id, organisation_id, act, filter, actor, note, rate, canary, state, letters, stepped_at, created_at)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 'redrive', '{"code": "unknown_status"}', 'token:mia', 'agreed', 500, 3, 'canary', 1, '2026-11-25 03:30:13.780626+00', '2026-11-25 03:30:13.780626+00');

INSERT INTO withdrawals.sources
    (id, organisation_id, name, kind, on_deactivate, grace_hours, secret, created_at, created_by)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 'workday', 'standard', 'withdraw', 0, 'gAAAAABrBlZDiLJ0y1ELF5FRiH32jWfrIiBLFsQDNGWOfcynFqHkNtnPwUcDS3deAEzDojJKM4aldXGGTVDi1IzRufeRad-uHw8LaRrenKJikyrLrsCQxmIKxl5XeFbXcd4Fl3lL-jLzr5BHh5APtDWWGS_2T3tdvw==', '2026-11-25 03:30:11.89603+00', 'token:mia');

INSERT INTO withdrawals.tokens
    (id, organisation_id, name, role, selector, hash, created_at, created_by, revoked_at)
    OVERRIDING SYSTEM VALUE VALUES
    (1, 1, 'mia', 'approver', '6c1449f9ddc15711', E'\\x7206b27d1ba4b6a7e36f915ff793c22c48fede112ba845ea00776300d2576e7c', '2026-11-25 03:30:13.750763+00', 'cli:root', NULL),
    (2, 1, 'gone', 'viewer', 'c77ad693afd771b5', E'\\x05c2cb1c01afc68f549e5b6a2c365655d0b1188f9b29a00dff8982b7ed687e13', '2026-11-25 03:30:13.759172+00', 'cli:root', '2026-11-25 03:30:13.760963+00');

SET session_replication_role = origin;

-- Let every identity go on after the rows above.
DO $$ DECLARE c record; BEGIN
    FOR c IN SELECT table_schema AS s, table_name AS t, column_name AS n FROM information_schema.columns
        WHERE table_schema IN ('lms', 'withdrawals') AND is_identity = 'YES' LOOP
        EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), coalesce(max(%I), 0) + 1, false) FROM %I.%I',
            c.s || '.' || c.t, c.n, c.n, c.s, c.t);
    END LOOP;
END $$;
