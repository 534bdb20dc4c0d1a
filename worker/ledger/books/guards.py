"""What guards the books: rights, triggers and unique indexes; and records that refer to another organisation."""

from worker.ledger.books.rule import By, Rule, Scan, Severity

_GRANTED = """('enrolments', 'status', 'UPDATE'), ('enrolments', 'withdrawn_at', 'UPDATE'),
    ('enrolments', 'withdrawal_reason', 'UPDATE'), ('enrolments', 'withdrawn_by', 'UPDATE'),
    ('learners', 'organisation_id', 'INSERT'), ('learners', 'external_id', 'INSERT'), ('learners', 'email', 'INSERT'),
    ('learners', 'display_name', 'INSERT'), ('learners', 'active', 'INSERT'), ('learners', 'email', 'UPDATE'),
    ('learners', 'display_name', 'UPDATE'), ('learners', 'active', 'UPDATE')"""
"""What `ops/migrations/grants.sql` lets the service write of the platform's tables."""

KEPT = (
    "audit",
    "seals",
    "prunes",
    "pruned_withdrawals",
    "erased_rows",
    "erasures",
    "audit_days",
    "protections",
    "approvals",
)
"""Tables of the ledger whose rows the service may not change."""

# Whole tables first, then single columns of the others.
_RIGHTS = Scan(
    By.WHOLE,
    f"""(
    SELECT 'lms.' || c.relname AS name, r.name AS may FROM pg_class c
    CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) r(name)
    WHERE c.relnamespace = to_regnamespace('lms') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND has_table_privilege(:role, c.oid, r.name)
    UNION ALL
    SELECT 'lms.' || c.relname || '.' || a.attname, r.name FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    CROSS JOIN (VALUES ('INSERT'), ('UPDATE')) r(name)
    WHERE c.relnamespace = to_regnamespace('lms') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND has_column_privilege(:role, c.oid, a.attnum, r.name) AND NOT has_table_privilege(:role, c.oid, r.name)
        AND (c.relname::text, a.attname::text, r.name) NOT IN (VALUES {_GRANTED})
    UNION ALL
    SELECT t.name, r.name FROM (VALUES {", ".join(f"('withdrawals.{table}')" for table in KEPT)}) t(name)
    CROSS JOIN (VALUES ('UPDATE'), ('DELETE'), ('TRUNCATE')) r(name)
    WHERE has_table_privilege(:role, t.name, r.name)) g""",
    "'role ' || CAST(:role AS text)",
    (
        Rule(
            "rights",
            "The service's role may write more than it needs, for example resource access, or change the audit.",
            "Revoke the right; `withdrawals migrate` grants what is needed.",
            detail="g.may || ' on ' || g.name",
        ),
    ),
)

_GUARDS = Scan(
    By.WHOLE,
    """(
    SELECT 'trigger ' || g.name || ' on withdrawals.' || g.relation AS name
    FROM (VALUES ('audit', 'append_only'), ('audit', 'only_recorded'), ('audit', 'only_erasure'),
        ('receipts', 'only_recorded'), ('erased_rows', 'append_only'),
        ('seals', 'append_only'), ('prunes', 'append_only'), ('prunes', 'link'), ('pruned_withdrawals', 'append_only'),
        ('chunks', 'keep'), ('chunks', 'keep_id'), ('outcomes', 'keep'), ('outcomes', 'have_chunks'),
        ('outcomes', 'keep_chunk'), ('outcomes', 'has_letter'), ('dead_letters', 'keep'),
        ('dead_letters', 'keep_id'), ('protections', 'keep'), ('protections', 'keep_terms')) g(relation, name)
    WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass('withdrawals.' || g.relation)
        AND t.tgname = g.name AND t.tgenabled IN ('O', 'A'))
    UNION ALL
    SELECT 'unique index ' || g.name
    FROM (VALUES ('jobs_pkey'), ('jobs_organisation_id_door_idempotency_key_key'), ('chunks_pkey'), ('outcomes_pkey'),
        ('receipts_pkey'), ('persons_pkey'), ('dead_letters_pkey'), ('dead_letters_one_live')) g(name)
    WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = to_regclass('withdrawals.' || g.name)
        AND i.indisunique AND i.indisvalid)) g""",
    "g.name",
    (
        Rule(
            "guard-missing",
            "A trigger or a unique index that makes wrong rows impossible is missing or disabled.",
            "Create it again as the migrations do, and find out who removed it.",
        ),
    ),
)

_RECEIPTS = Scan(
    By.RECEIPT,
    """withdrawals.receipts r
    LEFT JOIN withdrawals.jobs j ON j.id = r.job_id
    LEFT JOIN withdrawals.dead_letters d ON d.id = r.dead_letter_id""",
    "'receipt ' || r.id",
    (
        Rule(
            "receipt-organisation",
            "A receipt lies in another organisation than its job or its dead letter.",
            "Find out who changed the row: that organisation reads what it must not.",
            "r.organisation_id <> j.organisation_id OR r.organisation_id <> d.organisation_id",
            "'job ' || r.job_id",
        ),
        Rule(
            "receipt-job",
            "An event was applied, but its receipt does not name the job that carries it out.",
            "Compare the receipt with a backup, and look for a job with its key.",
            "NOT r.waiting AND r.status IN ('accepted', 'scheduled', 'held') AND r.job_id IS NULL",
            "r.status",
        ),
        Rule(
            "inbox-never-due",
            "An event waits in the inbox and cannot be applied: it says nothing, or its next attempt is too far ahead.",
            "Compare the receipt with a backup; if only the time is wrong, set `run_after` to now.",
            """r.waiting AND (r.external_id IS NULL OR r.type IS NULL OR r.run_after IS NULL
                OR r.run_after > now() + :furthest)""",
        ),
        Rule(
            "inbox-late",
            "An event in the inbox is due for over ten minutes, and was not applied.",
            "Check with `doctor` that a relay and workers run. The workers' logs say why they cannot apply it.",
            # A look-up waits for the event of the same person before it, whose HR system may not answer for hours.
            """r.waiting AND r.run_after < now() - interval '10 minutes' AND NOT (r.lookup AND EXISTS (
                SELECT 1 FROM withdrawals.receipts o WHERE o.waiting AND o.organisation_id = r.organisation_id
                AND o.external_id = r.external_id AND o.door = r.door AND o.id < r.id))""",
            "'due since ' || r.run_after",
            severity=Severity.WARNING,
        ),
    ),
    "{within r.id}",
)

_AUDIT = Scan(
    By.AUDIT,
    """withdrawals.audit a
    LEFT JOIN withdrawals.jobs j ON j.id = a.job_id
    LEFT JOIN withdrawals.dead_letters d ON d.id = a.dead_letter_id""",
    "'audit row ' || a.id",
    (
        Rule(
            "audit-subject",
            "A row of the audit is about a job or a dead letter that does not exist, or of another organisation.",
            "Compare the job or the letter with a backup: it was removed or changed.",
            """(a.job_id IS NOT NULL AND (j.id IS NULL OR j.organisation_id <> a.organisation_id))
                OR (a.dead_letter_id IS NOT NULL AND (d.id IS NULL OR d.organisation_id <> a.organisation_id))""",
            "a.action || coalesce(', job ' || a.job_id, '') || coalesce(', dead letter ' || a.dead_letter_id, '')",
        ),
    ),
    "{within a.id}",
)

_OTHERS = Scan(
    By.WHOLE,
    """(
    SELECT 'delivery ' || d.id AS name FROM withdrawals.deliveries d
    JOIN withdrawals.endpoints e ON e.id = d.endpoint_id WHERE e.organisation_id <> d.organisation_id
    UNION ALL
    SELECT 'SCIM user ' || u.learner_id FROM withdrawals.scim_users u
    JOIN lms.learners l ON l.id = u.learner_id WHERE l.organisation_id <> u.organisation_id) o""",
    "o.name",
    (
        Rule(
            "other-organisation",
            "A webhook delivery or a SCIM user lies in another organisation than its endpoint or its learner.",
            "Find out who changed the row: that organisation reads what it must not.",
        ),
    ),
)

SCANS = (_RIGHTS, _GUARDS, _RECEIPTS, _AUDIT, _OTHERS)
