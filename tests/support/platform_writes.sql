-- What the platform itself does to its bookings, for tests that write to schema lms as if it were tables.
CREATE FUNCTION campus.write_booking() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
    IF tg_op = 'INSERT' THEN
        INSERT INTO campus.booking (booking_no, tenant_no, account_no, course_no, programme_no, stage, booked_at,
            deadline, percent, dropped_at, dropped_why, dropped_by)
        VALUES (coalesce(new.id, nextval('campus.booking_booking_no_seq')), new.organisation_id, new.learner_id,
            new.series_id, new.pathway_id, campus.stage_of(new.status), coalesce(new.enrolled_at, now()), new.due_at,
            coalesce(new.progress, 0), new.withdrawn_at, new.withdrawal_reason, new.withdrawn_by)
        RETURNING booking_no INTO new.id;
        RETURN new;
    END IF;
    DELETE FROM campus.booking WHERE booking_no = old.id;
    RETURN old;
END
$$;
CREATE TRIGGER write_booking INSTEAD OF INSERT OR DELETE ON lms.enrolments
    FOR EACH ROW EXECUTE FUNCTION campus.write_booking();
-- Beside the trigger of the example, which writes only what the service may.
CREATE FUNCTION campus.write_rest_of_booking() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$
BEGIN
    UPDATE campus.booking SET percent = new.progress, deadline = new.due_at, programme_no = new.pathway_id
    WHERE booking_no = old.id
        AND (percent, deadline, programme_no) IS DISTINCT FROM (new.progress, new.due_at, new.pathway_id);
    RETURN new;
END
$$;
CREATE TRIGGER write_rest_of_booking INSTEAD OF UPDATE ON lms.enrolments
    FOR EACH ROW EXECUTE FUNCTION campus.write_rest_of_booking();
