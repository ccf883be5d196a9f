/**
 * The tables and functions, as migrations. Each is applied once, in order, in one transaction, and never changed afterwards; its checksum
 * is stored with it. `$schema` stands for the quoted name of the schema.
 *
 * All ordered values are compared bytewise (`COLLATE "C"`), as in the other stores. Structured values are JSON in text columns, because a
 * text can hold `\u0000` as an escape sequence and `jsonb` refuses it. The latest attempt is stored in the job's own row and moves to
 * `attempts` when the job is claimed again.
 *
 * The operations that workers call all the time are functions: one round trip, cached plans, and planner settings that apply only to them,
 * because statistics of a queue are always out of date. A later version of a function gets a new name, because workers of two versions run
 * side by side during a deployment.
 */
import { createHash } from 'node:crypto';
import { MigrationError } from '../../core/errors.ts';
import { maxAttemptsKept } from '../../core/job.ts';
import type { Session } from './session.ts';

/** Ids that are not UUIDv7, or whose timestamp is after the year 2526. All other ids sort in enqueue order. */
export const ownId = "(id >= '1' OR id NOT LIKE '________-____-7___-____-____________')";
export const timedId = "(id < '1' AND id LIKE '________-____-7___-____-____________')";

/** The planner must walk the indexes in order, whatever the table statistics say. */
const planned =
  'SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan';

// Fragments of functions. They are not separate functions because each level of calls copies the returned rows.

const candidates = `DECLARE
    v_taken text[] := '{}';
    v_found text[];
    v_again boolean := false;
    v_found_again boolean;
    v_level integer;
    v_queues text[];
    v_froms bigint[];`;

/** Fills `v_taken`, and `v_again` if one of them was claimed before. */
const findCandidates = `SELECT max(l.priority) INTO v_level FROM unnest(p_priorities) l(priority);
    WHILE v_level IS NOT NULL AND cardinality(v_taken) < p_limit LOOP
      SELECT array_agg(l.queue), array_agg(l.due) INTO v_queues, v_froms FROM unnest(p_queues, p_priorities, p_dues) l(queue, priority, due)
        WHERE l.priority = v_level AND NOT EXISTS (SELECT 1 FROM $schema.queues q WHERE q.name = l.queue AND q.paused);
      SELECT array_agg(best.id ORDER BY best.due_at, best.id), bool_or(best.claim > 0) INTO v_found, v_found_again FROM (
        SELECT due.id, due.due_at, due.claim FROM unnest(v_queues, v_froms) l(queue, due) CROSS JOIN LATERAL (
          SELECT j.id, j.due_at, j.claim FROM $schema.jobs j
          WHERE j.state = 'queued' AND j.blocked_by IS NULL AND j.queue = l.queue AND j.priority = v_level
            AND j.due_at >= l.due AND j.due_at <= p_now
            AND j.task = ANY (p_tasks) AND (j.expires_at IS NULL OR j.started_at IS NOT NULL OR j.expires_at > p_now)
          ORDER BY j.due_at, j.id LIMIT p_limit - cardinality(v_taken) FOR UPDATE SKIP LOCKED) due
        ORDER BY due.due_at, due.id LIMIT p_limit - cardinality(v_taken)) best;
      IF v_found IS NOT NULL THEN
        v_taken := v_taken || v_found;
        v_again := v_again OR v_found_again;
      END IF;
      SELECT max(l.priority) INTO v_level FROM unnest(p_priorities) l(priority) WHERE l.priority < v_level;
    END LOOP;`;

/** Moves the latest attempts of jobs out of their rows. */
const keepAttempts = (ids: string) => `INSERT INTO $schema.attempts (job, claim, attempt, worker, started_at, ended_at, outcome, error)
      SELECT j.id, j.claim, j.last_attempt, j.last_worker, j.last_attempted_at, j.last_ended_at, j.last_outcome, j.last_error
      FROM $schema.jobs j WHERE j.id = ANY (${ids}) AND j.claim > 0 AND j.last_attempt IS NOT NULL AND j.last_worker IS NOT NULL
      ON CONFLICT (job, claim) DO NOTHING;
    DELETE FROM $schema.attempts a USING $schema.jobs j
      WHERE j.id = ANY (${ids}) AND j.claim >= ${maxAttemptsKept} AND a.job = j.id AND a.claim <= j.claim + 1 - ${maxAttemptsKept};`;

const lease = (ids: string) => `UPDATE $schema.jobs j SET
      state = 'running', attempt = j.attempt + 1, claim = j.claim + 1, lease_until = p_lease_until, started_at = coalesce(j.started_at, p_now),
      last_attempted_at = p_now, awaits = NULL, last_attempt = j.attempt + 1, last_worker = p_worker,
      last_ended_at = NULL, last_outcome = NULL, last_error = NULL,
      unique_key = CASE WHEN position(' running ' IN j.unique_while) > 0 THEN j.unique_key END
      WHERE j.id = ANY (${ids}) RETURNING j.*`;

const findAndLease = `${findCandidates}
    IF cardinality(v_taken) < p_limit AND EXISTS (
      SELECT 1 FROM $schema.jobs j WHERE j.blocked_by IS NOT NULL AND j.task = ANY (p_tasks)
    ) THEN
      RAISE EXCEPTION 'blocked' USING ERRCODE = 'ESC02';
    END IF;
    IF v_again THEN
      ${keepAttempts('v_taken')}
    END IF;
    IF cardinality(v_taken) > 0 THEN
      RETURN QUERY ${lease('v_taken')};
    END IF;`;

// The same fragments for the functions of the second migration, which return only what workers need.

const places = `#variable_conflict use_column
  DECLARE
    v_taken tid[] := '{}';
    v_found tid[];
    v_again boolean := false;
    v_found_again boolean;
    v_level integer;
    v_queues text[];
    v_froms bigint[];
    v_ids text[];`;

/** True for a row with values in columns that most jobs leave empty. */
const seldom = `j.losses > 0 OR num_nonnulls(j.run_after, j.expires_at, j.scheduled_at, j.prune_at, j.cancel_requested, j.reason, j.progress, j.tags,
      j.metadata, j.schedule, j.overrides, j.last_error, j.uniqueness, j.unique_key, j.concurrency_key, j.rate_key, j.enqueued_by, j.blocked_by, j.awaits,
      j.workflow, j.part, j.return_value, j.finished_at) > 0`;

/** Locks the best due jobs and leases them by ctid, which cannot change while the rows are locked. */
const findAndLeaseInPlace = `SELECT max(l.priority) INTO v_level FROM unnest(p_priorities) l(priority);
    WHILE v_level IS NOT NULL AND cardinality(v_taken) < p_limit LOOP
      SELECT array_agg(l.queue), array_agg(l.due), array_agg(l.id) INTO v_queues, v_froms, v_ids FROM unnest(p_queues, p_priorities, p_dues, p_after) l(queue, priority, due, id)
        WHERE l.priority = v_level AND NOT EXISTS (SELECT 1 FROM $schema.queues q WHERE q.name = l.queue AND q.paused);
      SELECT array_agg(best.place), bool_or(best.claim > 0) INTO v_found, v_found_again FROM (
        SELECT due.place, due.claim FROM unnest(v_queues, v_froms, v_ids) l(queue, due, id) CROSS JOIN LATERAL (
          SELECT j.ctid AS place, j.id, j.due_at, j.claim FROM $schema.jobs j
          WHERE j.state = 'queued' AND j.blocked_by IS NULL AND j.queue = l.queue AND j.priority = v_level
            AND (j.due_at, j.id) > (l.due, l.id COLLATE "C") AND j.due_at <= p_now
            AND j.task = ANY (p_tasks) AND (j.expires_at IS NULL OR j.started_at IS NOT NULL OR j.expires_at > p_now)
          ORDER BY j.due_at, j.id LIMIT p_limit - cardinality(v_taken) FOR UPDATE SKIP LOCKED) due
        ORDER BY due.due_at, due.id LIMIT p_limit - cardinality(v_taken)) best;
      IF v_found IS NOT NULL THEN
        v_taken := v_taken || v_found;
        v_again := v_again OR v_found_again;
      END IF;
      SELECT max(l.priority) INTO v_level FROM unnest(p_priorities) l(priority) WHERE l.priority < v_level;
    END LOOP;
    IF cardinality(v_taken) < p_limit AND EXISTS (
      SELECT 1 FROM $schema.jobs j WHERE j.blocked_by IS NOT NULL AND j.task = ANY (p_tasks)
    ) THEN
      RAISE EXCEPTION 'blocked' USING ERRCODE = 'ESC02';
    END IF;
    IF v_again THEN
      ${keepAttempts('ARRAY(SELECT c.id FROM $schema.jobs c WHERE c.ctid = ANY (v_taken))')}
    END IF;
    IF cardinality(v_taken) > 0 THEN
      RETURN QUERY UPDATE $schema.jobs j SET
        state = 'running', attempt = j.attempt + 1, claim = j.claim + 1, lease_until = p_lease_until, started_at = coalesce(j.started_at, p_now),
        last_attempted_at = p_now, awaits = NULL, last_attempt = j.attempt + 1, last_worker = p_worker,
        last_ended_at = NULL, last_outcome = NULL, last_error = NULL,
        unique_key = CASE WHEN position(' running ' IN j.unique_while) > 0 THEN j.unique_key END
        WHERE j.ctid = ANY (v_taken)
        RETURNING j.id, j.task, j.queue, j.priority, j.input, j.due_at, j.enqueued_at, j.attempt, j.max_attempts, j.claim, nullif(j.started_at, p_now), j.ctid,
          CASE WHEN ${seldom} THEN row_to_json(j)::text END;
    END IF;`;

const succeeding = (where: string) => `UPDATE $schema.jobs j SET
      state = 'successful', losses = 0, lease_until = NULL, finished_at = s.ended_at, cancel_requested = NULL, return_value = s.value, reason = NULL,
      progress = coalesce(s.progress, j.progress), awaits = NULL, blocked_by = NULL,
      last_ended_at = s.ended_at, last_outcome = 'successful', last_error = NULL
      FROM unnest(p_ids, p_places, p_claims, p_ends, p_values, p_progress) s(id, place, claim, ended_at, value, progress)
      -- Written so that the planner does not look for the row in the index of running jobs.
      WHERE ${where} AND j.claim = s.claim AND coalesce(j.state, '') = 'running'`;
const succeed = (where: string, variable: string) => `${succeeding(where)};
    GET DIAGNOSTICS ${variable} = ROW_COUNT;`;
/** The same, and adds to the finished counts. */
const succeedAndCount = (where: string, variable: string) => `WITH done AS (${succeeding(where)} RETURNING j.queue), counted AS (
        INSERT INTO $schema.finished (queue, state, count) SELECT d.queue, 'successful', count(*) FROM done d GROUP BY 1 RETURNING count
      ) SELECT coalesce(sum(c.count), 0) INTO ${variable} FROM counted c;`;

/**
 * Settles plain successes by ctid, or by id if a row has moved.
 * @param succeeded a statement that puts the number of rows into a variable
 */
const settlePlain = (
  succeeded: (where: string, variable: string) => string,
) => `${succeeded('j.ctid = s.place AND j.id = s.id', 'v_applied')}
    IF v_applied < cardinality(p_ids) THEN
      -- Rows whose leases have been renewed are elsewhere.
      ${succeeded('j.id = s.id', 'v_moved').replaceAll(/^ {4}(?=\S)/gm, '      ')}
    END IF;
    IF v_applied + v_moved <> cardinality(p_ids) THEN
      RAISE EXCEPTION 'not plain' USING ERRCODE = 'ESC01';
    END IF;
    IF EXISTS (SELECT 1 FROM $schema.jobs j WHERE j.blocked_by IS NOT NULL) THEN
      PERFORM $schema.unblock(gate.name, gate.count::integer) FROM (
        SELECT j.task || ' ' || coalesce(j.concurrency_key, '') AS name, count(*) AS count
        FROM $schema.jobs j WHERE j.id = ANY (p_ids) GROUP BY 1) gate;
    END IF;`;
const succeedAll = (succeeded: (where: string, variable: string) => string) => `${settlePlain(succeeded)}
    IF p_limit > 0 THEN
      ${findAndLeaseInPlace}
    END IF;`;

/** Deletes plain successes by ctid, or by id if a row has moved, along with everything stored under their ids. */
const pruning = (
  where: string,
  variable: string,
) => `DELETE FROM $schema.jobs j USING unnest(p_pruned, p_pruned_places, p_pruned_claims) s(id, place, claim)
        WHERE ${where} AND j.claim = s.claim AND coalesce(j.state, '') = 'running';
      GET DIAGNOSTICS ${variable} = ROW_COUNT;`;
const pruneAll = `IF EXISTS (SELECT 1 FROM $schema.jobs j WHERE j.blocked_by IS NOT NULL) THEN
        -- Others may take their places.
        RAISE EXCEPTION 'not plain' USING ERRCODE = 'ESC01';
      END IF;
      ${pruning('j.ctid = s.place AND j.id = s.id', 'v_pruned')}
      v_moved := 0;
      IF v_pruned < cardinality(p_pruned) THEN
        ${pruning('j.id = s.id', 'v_moved').replaceAll(/^ {6}(?=\S)/gm, '        ')}
      END IF;
      IF v_pruned + v_moved <> cardinality(p_pruned) THEN
        RAISE EXCEPTION 'not plain' USING ERRCODE = 'ESC01';
      END IF;
      DELETE FROM $schema.attempts a WHERE a.job = ANY (p_pruned);
      DELETE FROM $schema.steps t WHERE t.job = ANY (p_pruned);
      DELETE FROM $schema.blobs b WHERE b.job = ANY (p_pruned);`;

const claimedColumns = `id text, task text, queue text, priority integer, input text, due_at bigint, enqueued_at bigint, attempt integer,
    max_attempts integer, claim integer, started_at bigint, place tid, whole text`;

export const migrations: readonly string[] = [
  `
  CREATE TABLE $schema.jobs (
    n bigint GENERATED ALWAYS AS IDENTITY,
    due_at bigint NOT NULL,
    enqueued_at bigint NOT NULL,
    lease_until bigint,
    started_at bigint,
    last_attempted_at bigint,
    last_ended_at bigint,
    finished_at bigint,
    run_after bigint,
    expires_at bigint,
    scheduled_at bigint,
    prune_at bigint,
    priority integer NOT NULL,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    claim integer NOT NULL,
    losses integer NOT NULL,
    last_attempt integer,
    state text COLLATE "C" NOT NULL,
    id text COLLATE "C" PRIMARY KEY,
    task text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    last_worker text COLLATE "C",
    last_outcome text COLLATE "C",
    input text,
    return_value text,
    cancel_requested text,
    reason text,
    progress text,
    tags text,
    metadata text,
    schedule text COLLATE "C",
    overrides text,
    last_error text,
    uniqueness text,
    unique_key text COLLATE "C",
    unique_while text COLLATE "C",
    concurrency_key text COLLATE "C",
    rate_key text COLLATE "C",
    enqueued_by text COLLATE "C",
    blocked_by text COLLATE "C",
    awaits text COLLATE "C",
    workflow text COLLATE "C",
    part text
  ) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0.05);

  CREATE INDEX jobs_queued ON $schema.jobs (queue, priority DESC, due_at, id) WHERE state = 'queued' AND blocked_by IS NULL;
  CREATE INDEX jobs_blocked ON $schema.jobs (blocked_by, priority DESC, due_at, id) WHERE blocked_by IS NOT NULL;
  CREATE INDEX jobs_leases ON $schema.jobs (lease_until) WHERE state = 'running';
  CREATE INDEX jobs_expiries ON $schema.jobs (expires_at) WHERE expires_at IS NOT NULL AND started_at IS NULL AND state = 'queued';
  CREATE INDEX jobs_finished ON $schema.jobs (state, finished_at) WHERE finished_at IS NOT NULL;
  CREATE INDEX jobs_own_retention ON $schema.jobs (state, prune_at) WHERE prune_at IS NOT NULL;
  CREATE INDEX jobs_ended ON $schema.jobs (last_ended_at) WHERE last_ended_at IS NOT NULL AND state = 'queued';
  CREATE INDEX jobs_own_ids ON $schema.jobs (enqueued_at) WHERE ${ownId};
  CREATE INDEX jobs_by_schedule ON $schema.jobs (schedule, id) WHERE schedule IS NOT NULL;
  CREATE UNIQUE INDEX jobs_occurrences ON $schema.jobs (schedule, scheduled_at) WHERE schedule IS NOT NULL;
  CREATE INDEX jobs_open_by_schedule ON $schema.jobs (schedule, id)
    WHERE schedule IS NOT NULL AND state IN ('waiting', 'queued', 'running');
  CREATE UNIQUE INDEX jobs_unique_keys ON $schema.jobs (unique_key) WHERE unique_key IS NOT NULL;
  CREATE INDEX jobs_enqueued_by ON $schema.jobs (enqueued_by, id) WHERE enqueued_by IS NOT NULL;
  CREATE INDEX jobs_by_workflow ON $schema.jobs (workflow, n) WHERE workflow IS NOT NULL;
  CREATE INDEX jobs_awaiting ON $schema.jobs (awaits) WHERE awaits IS NOT NULL;

  CREATE TABLE $schema.attempts (
    job text COLLATE "C" NOT NULL,
    claim integer NOT NULL,
    attempt integer NOT NULL,
    worker text COLLATE "C" NOT NULL,
    started_at bigint NOT NULL,
    ended_at bigint,
    outcome text COLLATE "C",
    error text,
    PRIMARY KEY (job, claim)
  );

  CREATE TABLE $schema.steps (
    n bigint GENERATED ALWAYS AS IDENTITY,
    job text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    value text,
    attempt integer NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (job, name)
  );
  CREATE TABLE $schema.blobs (job text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, bytes bytea NOT NULL, PRIMARY KEY (job, name));
  CREATE TABLE $schema.signals (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    data text,
    sent_at bigint NOT NULL
  );
  CREATE INDEX signals_by_name ON $schema.signals (name, n);
  -- An edge has its parent's value once the parent has ended and lets the child go on: parents may be pruned before.
  CREATE TABLE $schema.edges (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent text COLLATE "C" NOT NULL,
    child text COLLATE "C" NOT NULL,
    value text
  );
  CREATE INDEX edges_by_parent ON $schema.edges (parent, n);
  CREATE INDEX edges_by_child ON $schema.edges (child, n);
  CREATE INDEX edges_open ON $schema.edges (child) WHERE value IS NULL;
  -- Where keys share, those of jobs that are due are found by one index step each.
  CREATE INDEX jobs_keys ON $schema.jobs (task, queue, concurrency_key, due_at) WHERE concurrency_key IS NOT NULL AND state = 'queued';
  CREATE TABLE $schema.rates (name text COLLATE "C" PRIMARY KEY, arrival_at double precision NOT NULL);
  CREATE TABLE $schema.queues (name text COLLATE "C" PRIMARY KEY, paused boolean NOT NULL);
  CREATE TABLE $schema.workers (id text COLLATE "C" PRIMARY KEY, started_at bigint NOT NULL, heartbeat_at bigint NOT NULL, "row" text NOT NULL);
  CREATE TABLE $schema.schedules (
    name text COLLATE "C" PRIMARY KEY,
    source text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    paused boolean NOT NULL,
    computed boolean NOT NULL,
    next_at bigint,
    occurrence_at bigint,
    last_at bigint,
    held_at bigint,
    runs bigint NOT NULL,
    "row" text NOT NULL
  );
  CREATE INDEX schedules_due ON $schema.schedules (next_at, name) WHERE next_at IS NOT NULL AND NOT paused;
  CREATE INDEX schedules_held ON $schema.schedules (name) WHERE held_at IS NOT NULL AND NOT paused;

  -- Whether tags, a JSON array whose text has the tag in it, have it as an element. Damaged ones, and those with NUL, are taken at their word.
  CREATE FUNCTION $schema.has_tag(p_tags text, p_tag text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $body$
  BEGIN
    RETURN p_tags::jsonb ? p_tag;
  EXCEPTION WHEN OTHERS THEN
    RETURN true;
  END
  $body$;

  -- The lines of queued jobs: each priority of each queue. One index step for each.
  CREATE FUNCTION $schema.lines() RETURNS TABLE (queue text, priority integer) LANGUAGE plpgsql STABLE ${planned} AS $body$
  DECLARE
    v_queue text;
    v_priority integer;
  BEGIN
    SELECT j.queue, j.priority INTO v_queue, v_priority FROM $schema.jobs j
      WHERE j.state = 'queued' AND j.blocked_by IS NULL ORDER BY j.queue, j.priority DESC LIMIT 1;
    WHILE v_queue IS NOT NULL LOOP
      WHILE v_priority IS NOT NULL LOOP
        queue := v_queue;
        priority := v_priority;
        RETURN NEXT;
        SELECT j.priority INTO v_priority FROM $schema.jobs j
          WHERE j.state = 'queued' AND j.blocked_by IS NULL AND j.queue = v_queue AND j.priority < v_priority ORDER BY j.priority DESC LIMIT 1;
      END LOOP;
      SELECT j.queue, j.priority INTO v_queue, v_priority FROM $schema.jobs j
        WHERE j.state = 'queued' AND j.blocked_by IS NULL AND j.queue > v_queue ORDER BY j.queue, j.priority DESC LIMIT 1;
    END LOOP;
  END
  $body$;

  -- The best due jobs of some lines, up to a limit, in the order of claims, and locked. Future jobs are never read: a line is a range of the index that ends at the
  -- present. It begins where the caller says, after what has been claimed before. Jobs that another worker is about to claim are skipped.
  CREATE FUNCTION $schema.candidates(
    p_tasks text[], p_queues text[], p_priorities integer[], p_dues bigint[], p_now bigint, p_limit integer
  ) RETURNS text[] LANGUAGE plpgsql ${planned} AS $body$
  ${candidates}
  BEGIN
    ${findCandidates}
    RETURN v_taken;
  END
  $body$;

  -- Leases jobs that the transaction has locked.
  CREATE FUNCTION $schema.lease(p_ids text[], p_worker text, p_lease_until bigint, p_now bigint) RETURNS SETOF $schema.jobs
  LANGUAGE plpgsql ${planned} AS $body$
  BEGIN
    ${keepAttempts('p_ids')}
    RETURN QUERY ${lease('p_ids')};
  END
  $body$;

  -- Claims without limits. If too few jobs are found and others wait for a place, the caller has to look at those.
  CREATE FUNCTION $schema.claim(
    p_tasks text[], p_queues text[], p_priorities integer[], p_dues bigint[], p_now bigint, p_limit integer, p_worker text, p_lease_until bigint
  ) RETURNS SETOF $schema.jobs LANGUAGE plpgsql ${planned} AS $body$
  ${candidates}
  BEGIN
    ${findAndLease}
  END
  $body$;

  -- The next due time of a job in some lines; p_now if one is ready. p_later: only jobs that are not due yet.
  CREATE FUNCTION $schema.next_due(
    p_tasks text[], p_queues text[], p_priorities integer[], p_dues bigint[], p_now bigint, p_later boolean
  ) RETURNS bigint LANGUAGE plpgsql STABLE ${planned} AS $body$
  DECLARE
    v_found bigint;
    v_at bigint;
  BEGIN
    FOR i IN 1 .. cardinality(p_queues) LOOP
      CONTINUE WHEN EXISTS (SELECT 1 FROM $schema.queues q WHERE q.name = p_queues[i] AND q.paused);
      IF p_later THEN
        SELECT j.due_at INTO v_found FROM $schema.jobs j
          WHERE j.state = 'queued' AND j.blocked_by IS NULL AND j.queue = p_queues[i] AND j.priority = p_priorities[i] AND j.task = ANY (p_tasks)
            AND j.due_at > p_now ORDER BY j.due_at LIMIT 1;
      ELSE
        SELECT j.due_at INTO v_found FROM $schema.jobs j
          WHERE j.state = 'queued' AND j.blocked_by IS NULL AND j.queue = p_queues[i] AND j.priority = p_priorities[i] AND j.task = ANY (p_tasks)
            AND j.due_at >= p_dues[i]
            AND (j.due_at > p_now OR j.expires_at IS NULL OR j.started_at IS NOT NULL OR j.expires_at > p_now)
          ORDER BY j.due_at LIMIT 1;
      END IF;
      v_at := least(v_at, v_found);
      IF v_at <= p_now THEN
        RETURN p_now;
      END IF;
    END LOOP;
    RETURN v_at;
  END
  $body$;

  -- Makes the best blocked jobs of a gate ready again.
  CREATE FUNCTION $schema.unblock(p_gate text, p_count integer) RETURNS integer LANGUAGE plpgsql ${planned} AS $body$
  DECLARE
    v_freed integer;
  BEGIN
    UPDATE $schema.jobs SET blocked_by = NULL WHERE id = ANY (ARRAY(
      SELECT j.id FROM $schema.jobs j WHERE j.blocked_by = p_gate ORDER BY j.priority DESC, j.due_at, j.id LIMIT p_count FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_freed = ROW_COUNT;
    RETURN v_freed;
  END
  $body$;

  -- The most common outcome, of jobs that hold nothing but their lease; raises ESC01, having changed nothing, if one of them is another.
  -- Then claims, if p_limit says so. Returns the settled rows, which are successful, and the claimed ones, which run.
  CREATE FUNCTION $schema.succeed(
    p_ids text[], p_claims integer[], p_attempts integer[], p_settled_dues bigint[], p_ends bigint[], p_values text[], p_progress text[],
    p_tasks text[], p_queues text[], p_priorities integer[], p_dues bigint[], p_now bigint, p_limit integer, p_worker text, p_lease_until bigint
  ) RETURNS SETOF $schema.jobs LANGUAGE plpgsql ${planned} AS $body$
  ${candidates}
    v_applied integer;
  BEGIN
    RETURN QUERY UPDATE $schema.jobs j SET
      state = 'successful', attempt = s.attempt, losses = 0, due_at = s.due_at, lease_until = NULL, finished_at = s.ended_at,
      cancel_requested = NULL, return_value = s.value, reason = NULL, progress = coalesce(s.progress, j.progress), awaits = NULL,
      blocked_by = NULL, last_ended_at = s.ended_at, last_outcome = 'successful', last_error = NULL
      FROM unnest(p_ids, p_claims, p_attempts, p_settled_dues, p_ends, p_values, p_progress) s(id, claim, attempt, due_at, ended_at, value, progress)
      -- Written so that the planner does not look for the row in the index of running jobs.
      WHERE j.id = s.id AND j.claim = s.claim AND coalesce(j.state, '') = 'running' AND j.uniqueness IS NULL AND j.workflow IS NULL
        AND (j.overrides IS NULL OR position('retention' IN j.overrides) = 0)
      RETURNING j.*;
    GET DIAGNOSTICS v_applied = ROW_COUNT;
    IF v_applied <> cardinality(p_ids) THEN
      RAISE EXCEPTION 'not plain' USING ERRCODE = 'ESC01';
    END IF;
    IF EXISTS (SELECT 1 FROM $schema.jobs j WHERE j.blocked_by IS NOT NULL) THEN
      PERFORM $schema.unblock(gate.name, gate.count::integer) FROM (
        SELECT j.task || ' ' || coalesce(j.concurrency_key, '') AS name, count(*) AS count
        FROM $schema.jobs j WHERE j.id = ANY (p_ids) GROUP BY 1) gate;
    END IF;
    IF p_limit > 0 THEN
      ${findAndLease}
    END IF;
  END
  $body$;
  `,
  `
  -- As claim, in fewer columns; started_at is null where it is p_now. A line begins after a due time and an id: enqueued together, thousands of
  -- jobs are due at the same instant.
  CREATE FUNCTION $schema.claim_2(
    p_tasks text[], p_queues text[], p_priorities integer[], p_dues bigint[], p_after text[], p_now bigint, p_limit integer, p_worker text, p_lease_until bigint
  ) RETURNS TABLE (${claimedColumns}) LANGUAGE plpgsql ${planned} AS $body$
  ${places}
  BEGIN
    ${findAndLeaseInPlace}
  END
  $body$;

  -- As succeed, of jobs whose rows the caller knows: it returns the claimed ones alone.
  CREATE FUNCTION $schema.succeed_2(
    p_ids text[], p_places tid[], p_claims integer[], p_ends bigint[], p_values text[], p_progress text[],
    p_tasks text[], p_queues text[], p_priorities integer[], p_dues bigint[], p_after text[], p_now bigint, p_limit integer, p_worker text, p_lease_until bigint
  ) RETURNS TABLE (${claimedColumns}) LANGUAGE plpgsql ${planned} AS $body$
  ${places}
    v_applied integer;
    v_moved integer := 0;
  BEGIN
    ${succeedAll(succeed)}
  END
  $body$;
  `,
  `
  -- The number of finished jobs of each queue, so that millions of rows need not be counted: what is to be added, or subtracted, in the order in which
  -- transactions changed them. Rows are only inserted, so that nobody waits; workers replace many of them by their sums now and then.
  CREATE TABLE $schema.finished (queue text COLLATE "C" NOT NULL, state text COLLATE "C" NOT NULL, count bigint NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
  LOCK TABLE $schema.jobs IN SHARE MODE;
  INSERT INTO $schema.finished SELECT queue, state, count(*) FROM $schema.jobs WHERE finished_at IS NOT NULL GROUP BY 1, 2;
  CREATE INDEX jobs_waiting ON $schema.jobs (queue) WHERE state = 'waiting';

  -- As before, with the number of finished jobs.
  CREATE OR REPLACE FUNCTION $schema.succeed_2(
    p_ids text[], p_places tid[], p_claims integer[], p_ends bigint[], p_values text[], p_progress text[],
    p_tasks text[], p_queues text[], p_priorities integer[], p_dues bigint[], p_after text[], p_now bigint, p_limit integer, p_worker text, p_lease_until bigint
  ) RETURNS TABLE (${claimedColumns}) LANGUAGE plpgsql ${planned} AS $body$
  ${places}
    v_applied integer;
    v_moved integer := 0;
  BEGIN
    ${succeedAll(succeedAndCount)}
  END
  $body$;

  -- What a claim with limits looks at first, once it is its turn: in one round trip, because others wait for the lock.
  CREATE FUNCTION $schema.look(p_lock integer[], p_rates text[]) RETURNS text LANGUAGE plpgsql ${planned} AS $body$
  BEGIN
    PERFORM pg_advisory_xact_lock(p_lock[1], p_lock[2]);
    -- A statement of its own: it sees what those before have committed.
    RETURN (SELECT json_build_object(
      'running', (SELECT coalesce(json_agg(r), '[]') FROM (
        SELECT j.queue, j.task, j.concurrency_key AS "concurrencyKey", count(*) AS count FROM $schema.jobs j
          WHERE j.state = 'running' GROUP BY 1, 2, 3) r),
      'rates', (SELECT coalesce(json_agg(r), '[]') FROM (
        SELECT r.name, r.arrival_at AS "arrivalAt" FROM $schema.rates r WHERE r.name = ANY (p_rates)) r),
      'lines', (SELECT coalesce(json_agg(l), '[]') FROM $schema.lines() l),
      'hasBlocked', EXISTS (SELECT 1 FROM $schema.jobs j WHERE j.blocked_by IS NOT NULL)));
  END
  $body$;

  -- The number of jobs of each queue in each state. Of queued jobs: whether they are due, and the earliest due time. Jobs that wait for another
  -- attempt are counted a second time, under a state of their own.
  CREATE FUNCTION $schema.stats(p_now bigint) RETURNS TABLE (queue text, state text, due boolean, count bigint, at bigint)
  LANGUAGE plpgsql STABLE ${planned} AS $body$
  #variable_conflict use_column
  BEGIN
    RETURN QUERY
      SELECT j.queue, 'queued', j.due_at <= p_now, count(*), min(j.due_at) FROM $schema.jobs j
        WHERE j.state = 'queued' AND j.blocked_by IS NULL GROUP BY 1, 3
      UNION ALL SELECT j.queue, 'queued', j.due_at <= p_now, count(*), min(j.due_at) FROM $schema.jobs j
        WHERE j.blocked_by IS NOT NULL AND j.state = 'queued' GROUP BY 1, 3
      UNION ALL SELECT j.queue, 'retrying', false, count(*), NULL FROM $schema.jobs j
        WHERE j.last_ended_at IS NOT NULL AND j.state = 'queued' AND j.attempt > 0 AND j.due_at > p_now GROUP BY 1
      UNION ALL SELECT j.queue, 'running', false, count(*), NULL FROM $schema.jobs j WHERE j.state = 'running' GROUP BY 1
      UNION ALL SELECT j.queue, 'waiting', false, count(*), NULL FROM $schema.jobs j WHERE j.state = 'waiting' GROUP BY 1
      UNION ALL SELECT f.queue, f.state, false, sum(f.count)::bigint, NULL FROM $schema.finished f GROUP BY 1, 2 HAVING sum(f.count) <> 0;
  END
  $body$;
  `,
  `
  -- As succeed_2, and deletes those of which nothing is kept.
  CREATE FUNCTION $schema.succeed_3(
    p_ids text[], p_places tid[], p_claims integer[], p_ends bigint[], p_values text[], p_progress text[],
    p_pruned text[], p_pruned_places tid[], p_pruned_claims integer[],
    p_tasks text[], p_queues text[], p_priorities integer[], p_dues bigint[], p_after text[], p_now bigint, p_limit integer, p_worker text, p_lease_until bigint
  ) RETURNS TABLE (${claimedColumns}) LANGUAGE plpgsql ${planned} AS $body$
  ${places}
    v_applied integer;
    v_moved integer;
    v_pruned integer;
  BEGIN
    IF cardinality(p_pruned) > 0 THEN
      ${pruneAll}
    END IF;
    IF cardinality(p_ids) > 0 THEN
    v_moved := 0;
    ${settlePlain(succeedAndCount)}
    END IF;
    IF p_limit > 0 THEN
      ${findAndLeaseInPlace}
    END IF;
  END
  $body$;
  `,
];

const checksum = (sql: string) => createHash('sha256').update(sql).digest('hex');

/**
 * Migrates the schema in the session's transaction. Processes that start at the same time take turns.
 * @param schema the quoted name
 * @throws MigrationError if a newer version has migrated the schema, or its migrations do not match the known ones
 */
export async function migrate(session: Session, schema: string, lock: readonly [number, number]): Promise<void> {
  await session.run(`SELECT pg_advisory_xact_lock(${lock[0]}, ${lock[1]})`);
  // CREATE SCHEMA IF NOT EXISTS requires a privilege on the database even if the schema exists.
  const [existing] = await session.rows<{ found: string | null }>('SELECT to_regnamespace($1)::text AS found', [schema]);
  if (existing?.found == null) await session.run(`CREATE SCHEMA IF NOT EXISTS ${schema}`);
  await session.run(`CREATE TABLE IF NOT EXISTS ${schema}.migrations (version integer PRIMARY KEY, checksum text NOT NULL)`);
  for (let version = (await applied(session, schema)) + 1; version <= migrations.length; version++) {
    const sql = migrations[version - 1] as string;
    await session.script(sql.replaceAll('$schema', schema));
    await session.run(`INSERT INTO ${schema}.migrations VALUES (${version}, '${checksum(sql)}')`);
  }
}

/**
 * True if the schema exists and is up to date. Read-only.
 * @throws MigrationError like `migrate`
 */
export async function isMigrated(session: Session, schema: string): Promise<boolean> {
  const [found] = await session.rows<{ found: string | null }>('SELECT to_regclass($1)::text AS found', [`${schema}.migrations`]);
  return found?.found != null && (await applied(session, schema)) === migrations.length;
}

/** The number of applied migrations. */
async function applied(session: Session, schema: string): Promise<number> {
  const rows = await session.rows<{ version: number; checksum: string }>(
    `SELECT version, checksum FROM ${schema}.migrations ORDER BY version`,
  );
  const latest = rows.at(-1)?.version ?? 0;
  if (latest > migrations.length) {
    throw new MigrationError(
      `the schema ${schema} has version ${latest}, but this version of escapement only supports ${migrations.length}: a newer version has migrated it. Update escapement in this process.`,
      { kind: 'newer' },
    );
  }
  for (const [i, { version, checksum: found }] of rows.entries()) {
    if (version === i + 1 && found === checksum(migrations[i] as string)) continue;
    throw new MigrationError(
      `migration ${i + 1} of the schema ${schema} does not match this version of escapement; the schema was changed by hand or by a custom build`,
      { kind: 'changed' },
    );
  }
  return rows.length;
}
