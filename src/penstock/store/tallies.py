"""How many jobs there are of each kind: kept by the database itself, with each change of a job.

`job_counts` has a sum for each state of an organisation's jobs, and one for each label and state.
Triggers change it in the transaction of the change, so that no writer can forget it and a list need
not count a hundred thousand rows to say how many there are. Shards are not counted: no tenant sees
them. The same triggers write a job's state into its labels, by which lists find it.

SQLite has one writer at a time, so there a sum is one row. On Postgres, writers of one organisation
would wait for each other at such a row, and two that each have one and want the other's would wait
forever. So there a sum is that of one row or more: a transaction changes one that nobody holds, and
adds one (its `slot`) where all are held. Nobody waits, there are no more rows of a sum than there
were ever writers at once, and whoever reads them sees what is committed and nothing else.
"""

from typing import Final

ANY: Final = ""
"""Key and value of the sums over all jobs of an organisation; no label has an empty key."""

SQLITE: Final = (
    """CREATE TRIGGER job_counts_new_job AFTER INSERT ON jobs WHEN NEW.parent_id IS NULL
        BEGIN INSERT INTO job_counts (org_id, key, value, state, slot, jobs)
        VALUES (NEW.org_id, '', '', NEW.state, 0, 1)
        ON CONFLICT (org_id, key, value, state, slot) DO UPDATE SET jobs = jobs + 1; END""",
    """CREATE TRIGGER job_counts_no_job AFTER DELETE ON jobs WHEN OLD.parent_id IS NULL
        BEGIN UPDATE job_counts SET jobs = jobs - 1
        WHERE org_id = OLD.org_id AND key = '' AND value = ''
        AND state = OLD.state;
        DELETE FROM job_counts
        WHERE org_id = OLD.org_id AND key = '' AND value = ''
        AND state = OLD.state AND jobs = 0; END""",
    """CREATE TRIGGER job_counts_moved_job AFTER UPDATE OF state ON jobs
        WHEN NEW.parent_id IS NULL AND OLD.state <> NEW.state
        BEGIN UPDATE job_counts SET jobs = jobs - 1
        WHERE org_id = OLD.org_id AND key = '' AND value = ''
        AND state = OLD.state;
        DELETE FROM job_counts
        WHERE org_id = OLD.org_id AND key = '' AND value = ''
        AND state = OLD.state AND jobs = 0;
        INSERT INTO job_counts (org_id, key, value, state, slot, jobs)
        VALUES (NEW.org_id, '', '', NEW.state, 0, 1)
        ON CONFLICT (org_id, key, value, state, slot) DO UPDATE SET jobs = jobs + 1;
        UPDATE job_labels SET state = NEW.state WHERE job_id = NEW.id; END""",
    """CREATE TRIGGER job_counts_new_label AFTER INSERT ON job_labels
        BEGIN INSERT INTO job_counts (org_id, key, value, state, slot, jobs)
        VALUES (NEW.org_id, NEW.key, NEW.value, NEW.state, 0, 1)
        ON CONFLICT (org_id, key, value, state, slot) DO UPDATE SET jobs = jobs + 1; END""",
    """CREATE TRIGGER job_counts_no_label AFTER DELETE ON job_labels
        BEGIN UPDATE job_counts SET jobs = jobs - 1
        WHERE org_id = OLD.org_id AND key = OLD.key AND value = OLD.value
        AND state = OLD.state;
        DELETE FROM job_counts
        WHERE org_id = OLD.org_id AND key = OLD.key AND value = OLD.value
        AND state = OLD.state AND jobs = 0; END""",
    """CREATE TRIGGER job_counts_moved_label AFTER UPDATE OF state ON job_labels
        BEGIN UPDATE job_counts SET jobs = jobs - 1
        WHERE org_id = OLD.org_id AND key = OLD.key AND value = OLD.value
        AND state = OLD.state;
        DELETE FROM job_counts
        WHERE org_id = OLD.org_id AND key = OLD.key AND value = OLD.value
        AND state = OLD.state AND jobs = 0;
        INSERT INTO job_counts (org_id, key, value, state, slot, jobs)
        VALUES (NEW.org_id, NEW.key, NEW.value, NEW.state, 0, 1)
        ON CONFLICT (org_id, key, value, state, slot) DO UPDATE SET jobs = jobs + 1; END""",
)

POSTGRESQL: Final = (
    """CREATE FUNCTION count_jobs(org text, k text, v text, s text, change bigint)
        RETURNS void LANGUAGE plpgsql AS $$
        DECLARE mine bigint; total bigint;
        BEGIN
            SELECT slot INTO mine FROM job_counts
            WHERE org_id = org AND key = k AND value = v AND state = s
            LIMIT 1 FOR UPDATE SKIP LOCKED;
            IF NOT FOUND THEN
                INSERT INTO job_counts AS known (org_id, key, value, state, slot, jobs)
                VALUES (org, k, v, s, txid_current(), change)
                ON CONFLICT (org_id, key, value, state, slot)
                DO UPDATE SET jobs = known.jobs + excluded.jobs;
                RETURN;
            END IF;
            UPDATE job_counts SET jobs = jobs + change
            WHERE org_id = org AND key = k AND value = v AND state = s AND slot = mine
            RETURNING jobs INTO total;
            IF total = 0 AND k <> '' THEN
                DELETE FROM job_counts
                WHERE org_id = org AND key = k AND value = v AND state = s AND slot = mine;
            END IF;
        END $$""",
    """CREATE FUNCTION count_changed_job() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND OLD.state = NEW.state THEN RETURN NULL; END IF;
            IF TG_OP <> 'INSERT' AND OLD.parent_id IS NULL THEN
                PERFORM count_jobs(OLD.org_id, '', '', OLD.state, -1);
            END IF;
            IF TG_OP <> 'DELETE' AND NEW.parent_id IS NULL THEN
                PERFORM count_jobs(NEW.org_id, '', '', NEW.state, 1);
            END IF;
            IF TG_OP = 'UPDATE' THEN
                UPDATE job_labels SET state = NEW.state WHERE job_id = NEW.id;
            END IF;
            RETURN NULL;
        END $$""",
    """CREATE FUNCTION count_changed_label() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                PERFORM count_jobs(OLD.org_id, OLD.key, OLD.value, OLD.state, -1);
            END IF;
            IF TG_OP <> 'DELETE' THEN
                PERFORM count_jobs(NEW.org_id, NEW.key, NEW.value, NEW.state, 1);
            END IF;
            RETURN NULL;
        END $$""",
    """CREATE TRIGGER job_counts_job AFTER INSERT OR DELETE OR UPDATE OF state ON jobs
        FOR EACH ROW EXECUTE FUNCTION count_changed_job()""",
    """CREATE TRIGGER job_counts_label AFTER INSERT OR DELETE OR UPDATE OF state ON job_labels
        FOR EACH ROW EXECUTE FUNCTION count_changed_label()""",
)
