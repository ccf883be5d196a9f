/**
 * The store's operations within one transaction, either the engine's or the application's: insert, settle, amend, signals, steps, advances.
 * Rows are locked in the order of their ids, changed by the functions of `core`, and written together.
 *
 * All values are bound as text, mostly as one JSON text, so that the operations run in a transaction of any driver.
 */
import { planAmendment, planSettlement } from '../../core/changes.ts';
import { DuplicateJobError } from '../../core/errors.ts';
import { gateOf, takesPlace } from '../../core/gate.ts';
import { isFinished, signalled } from '../../core/job.ts';
import { appended, logBlob } from '../../core/log.ts';
import { signalValue, stepsRunAgain } from '../../core/steps.ts';
import type { Amendment, Attempt, Job, JobRecord, Settlement, Signal, Step } from '../../core/types.ts';
import { duplicateOf, heldKey, isStanding, replacement } from '../../core/unique.ts';
import { type Edge, edgesOf, isRevived } from '../../core/workflow.ts';
import type { Advance, Amended, Held, JobBlob, Settled, Taken, WantedSignal } from '../../ports/store.ts';
import { type AttemptRow, attemptOf, type JobRow, recordOf, textOf } from '../sql/rows.ts';
import { chunks, sizeOf } from './chunks.ts';
import { codeOf, Retry } from './connection.ts';
import { edgesSql, WorkflowEdges } from './edges.ts';
import { changedColumns, changedRow, type Entry, editedColumns, entryOf, insertedColumns, insertedRow, jobColumns } from './rows.ts';
import { clean, cleaned, records, type Session, texts } from './session.ts';

/** How often an insert starts over because keys became free in the meantime, or because of a deadlock. */
const maxRounds = 50;
const maxDeadlocks = 3;
const maxBatchSize = 1_000;

/** The statements for a schema. */
export function workSql(schema: string) {
  const given = '$1::text::json';
  const assign = (columns: readonly string[]) => columns.map((column) => `${column} = r.${column}`).join(', ');
  const inserted = insertedColumns.join(', ');
  const insert = `INSERT INTO ${schema}.jobs (${inserted}) SELECT ${inserted} FROM json_populate_recordset(NULL::${schema}.jobs, ${given})`;
  const ofIds = `id IN (SELECT json_array_elements_text(${given}))`;
  const finished = `INSERT INTO ${schema}.finished (queue, state, count)`;
  const change = (
    columns: readonly string[],
  ) => `WITH r AS MATERIALIZED (SELECT * FROM json_populate_recordset(NULL::${schema}.jobs, ${given})),
      was AS MATERIALIZED (SELECT j.queue, j.state FROM ${schema}.jobs j WHERE j.id IN (SELECT id FROM r) AND j.finished_at IS NOT NULL),
      changed AS (UPDATE ${schema}.jobs j SET ${assign(columns)} FROM r WHERE j.id = r.id RETURNING j.queue, j.state, j.finished_at)
      ${finished} SELECT queue, state, sum(change)::bigint FROM (
        SELECT queue, state, -1 AS change FROM was UNION ALL SELECT queue, state, 1 FROM changed WHERE finished_at IS NOT NULL
      ) c GROUP BY 1, 2 HAVING sum(change) <> 0`;
  return {
    edges: edgesSql(schema),
    insert,
    insertOnce: `${insert} ON CONFLICT DO NOTHING RETURNING id`,
    insertUnique: `${insert} ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING RETURNING id`,
    insertOccurrence: `${insert} ON CONFLICT (schedule, scheduled_at) WHERE schedule IS NOT NULL DO NOTHING RETURNING id`,
    lock: `SELECT ${jobColumns} FROM ${schema}.jobs WHERE ${ofIds} ORDER BY id FOR UPDATE`,
    get: `SELECT ${jobColumns} FROM ${schema}.jobs WHERE ${ofIds}`,
    attempts: `SELECT job, claim, attempt, worker, started_at AS "startedAt", ended_at AS "endedAt", outcome, error
      FROM ${schema}.attempts WHERE job IN (SELECT json_array_elements_text(${given})) ORDER BY job, claim`,
    change: change(changedColumns),
    edit: change([...changedColumns, ...editedColumns]),
    holder: `SELECT ${jobColumns} FROM ${schema}.jobs WHERE unique_key = $1::text FOR UPDATE`,
    holderNow: `SELECT ${jobColumns} FROM ${schema}.jobs WHERE unique_key = $1::text`,
    holders: `SELECT ${jobColumns} FROM ${schema}.jobs WHERE unique_key = ANY (ARRAY(SELECT json_array_elements_text(${given})))
      ORDER BY id FOR UPDATE`,
    releaseKeys: `UPDATE ${schema}.jobs SET unique_key = NULL WHERE ${ofIds}`,
    hasBlocked: `SELECT 1 AS found FROM ${schema}.jobs WHERE blocked_by IS NOT NULL LIMIT 1`,
    unblock: `SELECT ${schema}.unblock(gate.name, gate.count) FROM json_to_recordset(${given}) gate(name text, count integer)`,
    blobs: `SELECT job, bytes FROM ${schema}.blobs WHERE job IN (SELECT json_array_elements_text(${given})) AND name = $2::text`,
    setMetadata: `UPDATE ${schema}.jobs j SET metadata = r.metadata FROM json_populate_recordset(NULL::${schema}.jobs, ${given}) r WHERE j.id = r.id`,
    keepBlobs: `INSERT INTO ${schema}.blobs (job, name, bytes) SELECT job, name, decode(bytes, 'base64')
      FROM json_to_recordset(${given}) b(job text, name text, bytes text) ON CONFLICT (job, name) DO UPDATE SET bytes = excluded.bytes`,
    saveSteps: `INSERT INTO ${schema}.steps (job, name, kind, value, attempt, at)
      SELECT job, name, kind, value, attempt, at FROM json_to_recordset(${given}) s(job text, name text, kind text, value text, attempt integer, at bigint)
      ON CONFLICT (job, name) DO UPDATE SET kind = excluded.kind, value = excluded.value, attempt = excluded.attempt, at = excluded.at`,
    getSteps: `SELECT job, name, kind, value, attempt, at FROM ${schema}.steps WHERE job IN (SELECT json_array_elements_text(${given})) ORDER BY n`,
    holds: `SELECT 1 AS found FROM ${schema}.jobs WHERE id = $1::text AND state = 'running' AND claim = $2::text::integer FOR UPDATE`,
    sendSignal: `INSERT INTO ${schema}.signals (name, data, sent_at) SELECT name, data, sent_at FROM json_populate_recordset(NULL::${schema}.signals, ${given})`,
    signalNames: `SELECT DISTINCT name FROM ${schema}.signals WHERE name IN (SELECT json_array_elements_text(${given}))`,
    takeSignal: `DELETE FROM ${schema}.signals WHERE n = (SELECT n FROM ${schema}.signals WHERE name = $1::text ORDER BY n LIMIT 1 FOR UPDATE SKIP LOCKED)
      RETURNING name, data, sent_at AS "sentAt"`,
    awaiting: `SELECT ${jobColumns} FROM ${schema}.jobs WHERE awaits = $1::text ORDER BY id FOR UPDATE`,
    deleteJobs: `WITH gone AS (DELETE FROM ${schema}.jobs WHERE ${ofIds} RETURNING queue, state, finished_at)
      ${finished} SELECT queue, state, -count(*) FROM gone WHERE finished_at IS NOT NULL GROUP BY 1, 2`,
    deleteSteps: `DELETE FROM ${schema}.steps WHERE job IN (SELECT json_array_elements_text(${given}))`,
    deleteParts: (['attempts', 'steps', 'blobs'] as const).map(
      (table) => `DELETE FROM ${schema}.${table} WHERE job IN (SELECT json_array_elements_text(${given}))`,
    ),
    advance: `UPDATE ${schema}.schedules s SET next_at = r.next_at, occurrence_at = r.occurrence_at, last_at = r.last_at, held_at = r.held_at, runs = r.runs,
      revision = s.revision + 1 FROM json_populate_record(NULL::${schema}.schedules, ${given}) r
      WHERE s.name = r.name AND s.revision = r.revision RETURNING s.name`,
  };
}
export type WorkSql = ReturnType<typeof workSql>;

/** What `insert` stores in addition to the jobs. */
export interface InsertOptions {
  /** Skips jobs whose ids exist already, and returns the existing ones. */
  readonly once?: boolean | undefined;
  readonly blobs?: readonly JobBlob[] | undefined;
  readonly edges?: readonly Edge[] | undefined;
}

export class Work {
  readonly edges: WorkflowEdges;
  readonly #session: Session;
  readonly #sql: WorkSql;

  constructor(session: Session, sql: WorkSql) {
    this.#session = session;
    this.#sql = sql;
    this.edges = new WorkflowEdges(session, sql.edges, {
      lock: (ids) => this.#lock(ids),
      change: (changes, now) => this.#follow(changes, now),
    });
  }

  async insert(
    jobs: readonly Job[],
    now: number,
    { once = false, blobs = [], edges = [] }: InsertOptions = {},
  ): Promise<Taken | undefined> {
    const taken = edges.length === 0 ? undefined : await this.#withEdges(jobs, now, once, edges);
    const answer = taken ? taken.answer : await this.#insertJobs(jobs, now, once);
    const kept = new Set(jobs.filter((_, i) => !answer?.[i]).map(({ id }) => id));
    await this.#keepBlobs(blobs.filter(({ job }) => kept.has(job)));
    return answer;
  }

  /** Checks the edges before inserting anything, and adds them for the jobs that did not exist yet. */
  async #withEdges(jobs: readonly Job[], now: number, once: boolean, edges: readonly Edge[]): Promise<{ answer: Taken | undefined }> {
    const ids = jobs.map(({ id }) => id);
    const locked = once ? await this.#lock(ids) : new Map<string, Entry>();
    const fresh = jobs.filter(({ id }) => !locked.has(id));
    await this.edges.check(edgesOf(fresh, edges), new Set(fresh.map(({ id }) => id)));
    const answer = await this.#insertJobs(jobs, now, once);
    // Another transaction may have inserted some of them in the meantime, with their edges.
    const inserted = fresh.filter(({ id }) => !answer?.some((standing) => standing?.job.id === id));
    await this.edges.add(edgesOf(inserted, edges));
    return { answer };
  }

  async #insertJobs(jobs: readonly Job[], now: number, once: boolean): Promise<Taken | undefined> {
    if (!once && jobs.every(({ unique }) => unique === null)) {
      for (const part of chunksOf(jobs)) await this.#session.run(this.#sql.insert, [rowsOf(part)]);
      return undefined;
    }
    if (jobs.length === 1) return this.#insertAgain(() => this.#insertOrFind(jobs, now, once));
    await this.#session.script('SAVEPOINT escapement_jobs');
    const restart = () => this.#session.script('ROLLBACK TO SAVEPOINT escapement_jobs');
    return this.#insertAgain(() => this.#insertOrFind(jobs, now, once), restart);
  }

  /** @param restart undoes the inserts and locks of a failed round; undefined: a failed round leaves nothing behind */
  async #insertAgain(insert: () => Promise<Taken | undefined>, restart?: () => Promise<void>): Promise<Taken> {
    let deadlocks = 0;
    for (let round = 0; round < maxRounds; round++) {
      try {
        const taken = await insert();
        if (taken) return taken;
      } catch (error) {
        if (!restart || codeOf(error) !== '40P01' || ++deadlocks > maxDeadlocks) throw error;
      }
      await restart?.();
    }
    throw new Retry();
  }

  /**
   * Takes keys in a fixed order, then locks their holders in the order of their ids, and waits for nothing after that. Concurrent inserts
   * therefore do not deadlock with each other or with workers. This is also why a key that becomes free in the meantime cannot be taken
   * now.
   * @returns undefined if a key became free: the insert must undo its inserts and locks and start over
   */
  async #insertOrFind(jobs: readonly Job[], now: number, once: boolean): Promise<Taken | undefined> {
    const refused: number[] = [];
    const existing = new Map<string, JobRecord>();
    const holders = new Map<string, Holder>();
    let wanted: readonly number[] = inOrderOfKeys(jobs, once);
    while (wanted.length > 0) {
      const isIn = await this.#insertNew(
        wanted.map((i) => jobs[i] as Job),
        once,
      );
      const left = wanted.filter((_, i) => !isIn.has(i));
      if (once) await this.#find(jobs, left, existing);
      const ofKeys = left.filter((i) => !existing.has((jobs[i] as Job).id));
      const found = await this.#holdersOf(ofKeys.map((i) => keyOf(jobs[i] as Job)));
      if (ofKeys.some((i) => !found.has(keyOf(jobs[i] as Job) ?? ''))) return undefined;
      const over = new Set([...found].filter(([, { entry }]) => !isStanding(entry.job, now)).map(([key]) => key));
      for (const [key, holder] of found) if (!over.has(key)) holders.set(key, holder);
      // Until this transaction ends, no other can take a key that it has released.
      if (over.size > 0)
        await this.#session.run(this.#sql.releaseKeys, [texts([...over].map((key) => (found.get(key) as Holder).entry.job.id))]);
      wanted = ofKeys.filter((i) => over.has(keyOf(jobs[i] as Job) ?? ''));
      const again = new Set(wanted);
      refused.push(...left.filter((i) => !again.has(i)));
    }
    return this.#existing(jobs, new Set(refused), existing, holders);
  }

  /** Finds the jobs whose ids exist already. */
  async #find(jobs: readonly Job[], wanted: readonly number[], existing: Map<string, JobRecord>): Promise<void> {
    if (wanted.length === 0) return;
    const ids = wanted.map((i) => (jobs[i] as Job).id);
    for (const [i, record] of (await this.records(ids)).entries()) if (record) existing.set(ids[i] as string, record);
  }

  /** The jobs that hold these unique keys, by key, including those whose windows are over. */
  async #holdersOf(keys: readonly (string | null)[]): Promise<Map<string, Holder>> {
    const wanted = new Set(keys.filter((key) => key !== null));
    if (wanted.size === 0) return new Map();
    const rows = await this.#session.rows<JobRow>(this.#sql.holders, [texts([...wanted])]);
    const ids = rows.map(({ id }) => id);
    const found = await recordsOf(this.#session, this.#sql.attempts, ids, rows);
    return new Map(rows.map((row, i) => [row.uniqueKey as string, { entry: entryOf(row), attempts: found[i]?.attempts ?? [] }]));
  }

  /**
   * The existing records returned in place of jobs because they have the same ids or hold their unique keys; replaced if the jobs ask for
   * it.
   */
  async #existing(
    jobs: readonly Job[],
    refused: ReadonlySet<number>,
    existing: ReadonlyMap<string, JobRecord>,
    holders: ReadonlyMap<string, Holder>,
  ): Promise<Taken> {
    const replaced = new Map<string, Entry>();
    const taken = jobs.map((job, i): JobRecord | null => {
      if (!refused.has(i)) return null;
      const same = existing.get(job.id);
      if (same) return { ...same, job: replaced.get(same.job.id)?.job ?? same.job };
      const { entry, attempts } = holders.get(keyOf(job) ?? '') as Holder;
      const standing = replaced.get(entry.job.id)?.job ?? entry.job;
      if (job.unique?.onConflict === 'reject') throw new DuplicateJobError(...duplicateOf(job, standing));
      const set = job.unique?.onConflict === 'replace' ? replacement(standing, job) : undefined;
      if (!set) return { job: standing, attempts };
      const after = { ...standing, ...set, input: cleaned(set.input) };
      replaced.set(after.id, { ...entry, job: after, blockedBy: null });
      return { job: after, attempts };
    });
    for (const part of chunks([...replaced.values()], maxBatchSize, ({ job }) => sizeOf(job))) await this.#write(part, true);
    return taken;
  }

  /** Inserts the jobs whose ids and keys are free, and returns their indexes. */
  async #insertNew(jobs: readonly Job[], once: boolean): Promise<ReadonlySet<number>> {
    const isIn = new Set<number>();
    let from = 0;
    for (const part of chunksOf(jobs)) {
      const sql = once ? this.#sql.insertOnce : this.#sql.insertUnique;
      const ids = new Set((await this.#session.rows<{ id: string }>(sql, [rowsOf(part)])).map(({ id }) => id));
      for (const [i, { id }] of part.entries()) if (ids.delete(id)) isIn.add(from + i);
      from += part.length;
    }
    return isIn;
  }

  /** The job that holds a unique key. A job whose window is over gives up the key. */
  async #holderOf(key: string | null, now: number): Promise<Entry | undefined> {
    if (key === null) return undefined;
    const [row] = await this.#session.rows<JobRow>(this.#sql.holder, [clean(key)]);
    if (!row) return undefined;
    const entry = entryOf(row);
    if (isStanding(entry.job, now)) return entry;
    await this.#session.run(this.#sql.releaseKeys, [texts([entry.job.id])]);
    return undefined;
  }

  /** The unique key that a row holds after a change. */
  async #keyAfter(entry: Entry, job: Job, now: number): Promise<string | null> {
    const key = job.unique === null ? null : cleaned(heldKey(job));
    if (key === null) return null;
    // The row in memory is not conclusive: if its window was over, another job may have taken the key since it was read.
    const [row] = await this.#session.rows<JobRow>(this.#sql.holderNow, [key]);
    if (!row || row.id === entry.job.id) return key;
    // The other row is not locked, because a transaction that has locked it may be waiting for the rows of this one.
    if (isStanding(entryOf(row).job, now)) return null;
    return (await this.#holderOf(key, now)) === undefined ? key : null;
  }

  async #keepBlobs(blobs: readonly JobBlob[]): Promise<void> {
    for (const part of chunks(blobs, maxBatchSize, ({ bytes }) => bytes.length)) {
      const rows = part.map(({ job, name, bytes }) => ({ job, name, bytes: Buffer.from(bytes).toString('base64') }));
      await this.#session.run(this.#sql.keepBlobs, [JSON.stringify(rows)]);
    }
  }

  async records(ids: readonly string[]): Promise<(JobRecord | null)[]> {
    const rows = await this.#session.rows<JobRow>(this.#sql.get, [texts(ids)]);
    return recordsOf(this.#session, this.#sql.attempts, ids, rows);
  }

  async #lock(ids: readonly string[]): Promise<Map<string, Entry>> {
    const found = new Map<string, Entry>();
    if (ids.length === 0) return found;
    for (const row of await this.#session.rows<JobRow>(this.#sql.lock, [texts(ids)])) found.set(row.id, entryOf(row));
    return found;
  }

  async #write(entries: readonly Entry[], isEdited = false): Promise<void> {
    if (entries.length === 0) return;
    const rows = isEdited
      ? entries.map((entry) => ({ ...changedRow(entry), queue: entry.job.queue, input: entry.job.input, run_after: entry.job.runAfter }))
      : entries.map(changedRow);
    await this.#session.run(isEdited ? this.#sql.edit : this.#sql.change, [records(rows)]);
  }

  /** @param changed receives the rows of the applied settlements, and the rows that changed as a consequence */
  async settle(given: readonly Settlement[], now: number, changed: Job[]): Promise<Omit<Settled, 'claimed'>> {
    const settled = await this.#settle(given, now, changed);
    const dependents = await this.edges.follow(
      changed.filter((job) => job.workflow !== null && isFinished(job)),
      now,
    );
    changed.push(...dependents);
    return { settled, dependents };
  }

  async #settle(given: readonly Settlement[], now: number, changed: Job[]): Promise<(Job | null)[]> {
    const settlements = given.map((settlement) => ({ ...settlement, reason: cleaned(settlement.reason) }));
    const entries = await this.#lock(settlements.map(({ id }) => id));
    const attempts = await this.#earlierAttempts(settlements, entries);
    const signals = await this.#signalsFor(settlements);
    const hasSignal = (name: string) => signals.has(clean(name));
    const dirty = new Set<string>();
    const gates: string[] = [];
    const gone: string[] = [];
    const answers: (Job | null)[] = settlements.map(() => null);
    const noted: Settlement[] = [];
    // Keys are taken and given up in the same order as in inserts.
    for (const i of inOrder(settlements.map(({ id }) => entries.get(id)?.job.unique?.key ?? ''))) {
      const settlement = settlements[i] as Settlement;
      const entry = entries.get(settlement.id);
      const plan = entry && planSettlement(entry.job, attempts.get(`${settlement.id} ${settlement.claim}`), settlement, hasSignal);
      answers[i] = plan?.answer ?? null;
      if (!entry || !plan?.answer || !plan.attempt) continue;
      const { answer: job, attempt, isPruned } = plan;
      changed.push(job);
      gates.push(gateOf(entry.job));
      if (isPruned) {
        gone.push(job.id);
        entries.delete(job.id);
        dirty.delete(job.id);
        continue;
      }
      const after = { job, attempt, uniqueKey: await this.#keyAfter(entry, job, now), blockedBy: null };
      attempts.set(`${job.id} ${settlement.claim}`, attempt);
      entries.set(job.id, after);
      // Another settlement may need the key that this one has taken or given up.
      if (job.unique) await this.#write([after]);
      else dirty.add(job.id);
      if (settlement.log ?? settlement.metadata) noted.push(settlement);
    }
    await this.#delete(gone);
    await this.#write([...dirty].map((id) => entries.get(id) as Entry));
    await this.keep(noted);
    await this.#unblock(gates);
    return answers;
  }

  /** Writes the logs and metadata of attempts. */
  async keep(held: readonly Pick<Held, 'id' | 'log' | 'metadata'>[]): Promise<void> {
    const marked = held.flatMap(({ id, metadata }) => (metadata ? [{ id, metadata: textOf(metadata) }] : []));
    if (marked.length > 0) await this.#session.run(this.#sql.setMetadata, [records(marked)]);
    const logged = held.filter(({ log }) => log !== undefined);
    if (logged.length === 0) return;
    const rows = await this.#session.rows<{ job: string; bytes: Uint8Array }>(this.#sql.blobs, [
      texts(logged.map(({ id }) => id)),
      logBlob,
    ]);
    const before = new Map(rows.map(({ job, bytes }) => [job, bytes]));
    await this.#keepBlobs(logged.map(({ id, log = [] }) => ({ job: id, name: logBlob, bytes: appended(before.get(id), log) })));
  }

  /** The earlier attempts that settlements refer to, by job and claim. */
  async #earlierAttempts(settlements: readonly Settlement[], entries: ReadonlyMap<string, Entry>): Promise<Map<string, Attempt>> {
    const found = new Map<string, Attempt>();
    const earlier = new Set<string>();
    for (const { id, claim } of settlements) {
      const entry = entries.get(id);
      if (entry?.attempt) found.set(`${id} ${entry.attempt.claim}`, entry.attempt);
      if (entry && entry.job.claim !== claim) earlier.add(id);
    }
    if (earlier.size === 0) return found;
    for (const row of await this.#session.rows<AttemptRow>(this.#sql.attempts, [texts([...earlier])]))
      found.set(`${row.job} ${row.claim}`, attemptOf(row));
    return found;
  }

  async #signalsFor(settlements: readonly Settlement[]): Promise<ReadonlySet<string>> {
    const names = settlements.flatMap(({ awaits }) => awaits ?? []);
    if (names.length === 0) return new Set();
    const rows = await this.#session.rows<{ name: string }>(this.#sql.signalNames, [texts(names)]);
    return new Set(rows.map(({ name }) => name));
  }

  async #unblock(gates: readonly string[]): Promise<void> {
    if (gates.length === 0) return;
    const [blocked] = await this.#session.rows(this.#sql.hasBlocked);
    if (!blocked) return;
    const counts = new Map<string, number>();
    for (const gate of gates) counts.set(gate, (counts.get(gate) ?? 0) + 1);
    await this.#session.run(this.#sql.unblock, [records([...counts].map(([name, count]) => ({ name, count })))]);
  }

  async amend(amendments: readonly Amendment[], now: number): Promise<Amended> {
    const parts: Job[] = [];
    const answers = await this.#amend(amendments, now, parts);
    return { amended: answers, dependents: await this.edges.follow(parts, now) };
  }

  /** Handles rows that changed because other jobs of their workflow changed. */
  async #follow(changes: readonly { readonly before: Entry; readonly after: Job }[], now: number): Promise<void> {
    const written: Entry[] = [];
    const edited: Entry[] = [];
    const gates: string[] = [];
    for (const { before, after } of changes) {
      const entry = { ...before, job: after, uniqueKey: await this.#keyAfter(before, after, now), blockedBy: null };
      const isFilled = before.job.input !== after.input;
      if (after.unique) await this.#write([entry], isFilled);
      else (isFilled ? edited : written).push(entry);
      if (takesPlace(before.job, before.blockedBy !== null, now) && !takesPlace(after, false, now)) gates.push(gateOf(before.job));
    }
    await this.#write(written);
    await this.#write(edited, true);
    await this.#runStepsAgain(changes.filter(({ before, after }) => isRevived(before.job, after)).map(({ before }) => before.job));
    await this.#unblock(gates);
  }

  /** @param jobs as they were when they ended */
  async #runStepsAgain(jobs: readonly Job[]): Promise<void> {
    if (jobs.length === 0) return;
    const ids = jobs.map(({ id }) => id);
    const steps = Map.groupBy(
      await this.#session.rows<Step & { readonly job: string }>(this.#sql.getSteps, [texts(ids)]),
      ({ job }) => job,
    );
    for (const { id, status } of jobs) {
      const left = stepsRunAgain(steps.get(id) ?? [], status === 'successful');
      if (!left) continue;
      await this.#session.run(this.#sql.deleteSteps, [texts([id])]);
      await this.#saveSteps(id, left);
    }
  }

  /** @param parts receives the rows that affect other jobs of their workflow */
  async #amend(amendments: readonly Amendment[], now: number, parts: Job[]): Promise<(Job | null)[]> {
    const entries = await this.#lock(amendments.map(({ id }) => id));
    const dirty = new Set<string>();
    const edited = new Set<string>();
    const gone: string[] = [];
    const requeued = amendments.flatMap(({ id, set }) => (set?.status === 'queued' ? (entries.get(id)?.job ?? []) : []));
    const obstacles = await this.edges.obstaclesOf(
      requeued.filter((job) => job.workflow !== null && isFinished(job)),
      now,
    );
    const waiting = await this.edges.waiting([...entries.values()].flatMap(({ job }) => (job.workflow === null ? [] : [job.id])));
    const revived: Job[] = [];
    const gates: string[] = [];
    const answers: (Job | null)[] = [];
    for (const { id, expect, set } of amendments) {
      const entry = entries.get(id);
      const row = entry && { job: entry.job, isBlocked: entry.blockedBy !== null, isWaiting: waiting.has(id), obstacle: obstacles.get(id) };
      const plan = row && planAmendment(row, { id, expect, set: set && cleanedSet(set) }, now);
      const holder = await this.#holderOf(plan?.change?.wantedKey ?? null, now);
      answers.push(holder?.job ?? plan?.answer ?? null);
      if (!entry || !plan?.change || holder) continue;
      const { job, isEdited, leavesPlace, followed } = plan.change;
      if (leavesPlace) gates.push(gateOf(entry.job));
      if (followed) parts.push(followed);
      if (!job) {
        gone.push(id);
        entries.delete(id);
        dirty.delete(id);
        edited.delete(id);
        continue;
      }
      if (isRevived(entry.job, job)) revived.push(entry.job);
      const after = { ...entry, job, uniqueKey: await this.#keyAfter(entry, job, now), blockedBy: null };
      entries.set(id, after);
      if (job.unique) await this.#write([after], isEdited);
      else {
        dirty.add(id);
        if (isEdited) edited.add(id);
      }
    }
    const written = (wanted: (id: string) => boolean) => [...dirty].filter(wanted).map((id) => entries.get(id) as Entry);
    await this.#write(written((id) => !edited.has(id)));
    await this.#write(
      written((id) => edited.has(id)),
      true,
    );
    await this.#delete(gone);
    if (gone.length > 0) await this.edges.forget(gone);
    await this.#runStepsAgain(revived);
    await this.#unblock(gates);
    return answers;
  }

  async #delete(gone: readonly string[]): Promise<void> {
    if (gone.length === 0) return;
    const ids = texts(gone);
    await this.#session.run(this.#sql.deleteJobs, [ids]);
    for (const sql of this.#sql.deleteParts) await this.#session.run(sql, [ids]);
  }

  async holds({ id, claim }: Pick<Held, 'id' | 'claim'>): Promise<boolean> {
    return (await this.#session.rows(this.#sql.holds, [id, String(claim)])).length > 0;
  }

  async saveSteps(held: Pick<Held, 'id' | 'claim'>, steps: readonly Step[]): Promise<boolean> {
    if (!(await this.holds(held))) return false;
    if (steps.length > 0) await this.#saveSteps(held.id, steps);
    return true;
  }

  async #saveSteps(job: string, steps: readonly Step[]): Promise<void> {
    // A statement cannot change a row twice.
    const latest = new Map(steps.map((step) => [step.name, { job, ...step }]));
    await this.#session.run(this.#sql.saveSteps, [records([...latest.values()])]);
  }

  /** Returns the jobs that become due. */
  async sendSignal({ name, data, sentAt }: Signal, now: number): Promise<Job[]> {
    await this.#session.run(this.#sql.sendSignal, [records([{ name, data, sent_at: sentAt }])]);
    const woken: Entry[] = [];
    for (const row of await this.#session.rows<JobRow>(this.#sql.awaiting, [clean(name)])) {
      const entry = entryOf(row);
      const job = signalled(entry.job, clean(name), now);
      if (job) woken.push({ ...entry, job, blockedBy: null });
    }
    await this.#write(woken);
    return woken.map(({ job }) => job);
  }

  async takeSignal(held: Pick<Held, 'id' | 'claim'>, { name, step }: WantedSignal): Promise<Signal | null | false> {
    if (!(await this.holds(held))) return false;
    const [signal] = await this.#session.rows<Signal>(this.#sql.takeSignal, [clean(name)]);
    if (!signal) return null;
    await this.#saveSteps(held.id, [{ ...step, value: signalValue(signal) }]);
    return signal;
  }

  async saveBlobs(held: Pick<Held, 'id' | 'claim'>, blobs: readonly Omit<JobBlob, 'job'>[]): Promise<boolean> {
    if (!(await this.holds(held))) return false;
    await this.#keepBlobs(blobs.map((blob) => ({ job: held.id, ...blob })));
    return true;
  }

  /** Returns the inserted jobs; null if another scheduler was faster. */
  async advance({ name, revision, times, jobs }: Advance, now: number): Promise<readonly Job[] | null> {
    const { nextAt, occurrenceAt, lastAt, heldAt, runs } = times;
    const row = { name, revision, next_at: nextAt, occurrence_at: occurrenceAt, last_at: lastAt, held_at: heldAt, runs };
    const moved = await this.#session.rows(this.#sql.advance, [JSON.stringify(row)]);
    if (moved.length === 0) return null;
    const inserted: Job[] = [];
    for (const job of jobs) {
      if (await this.#holderOf(heldKey(job), now)) continue;
      const rows = records([insertedRow(job, heldKey(job))]);
      if ((await this.#session.rows(this.#sql.insertOccurrence, [rows])).length > 0) inserted.push(job);
    }
    return inserted;
  }
}

/** The records of these ids, with their earlier attempts. */
export async function recordsOf(
  session: Session,
  attempts: string,
  ids: readonly string[],
  rows: readonly JobRow[],
): Promise<(JobRecord | null)[]> {
  const several = rows.filter(({ claim }) => claim > 1).map(({ id }) => id);
  const earlier = new Map<string, Attempt[]>();
  if (several.length > 0) {
    for (const row of await session.rows<AttemptRow>(attempts, [texts(several)])) {
      const kept = earlier.get(row.job);
      if (kept) kept.push(attemptOf(row));
      else earlier.set(row.job, [attemptOf(row)]);
    }
  }
  const found = new Map(rows.map((row) => [row.id, recordOf(row, earlier.get(row.id) ?? [])]));
  return ids.map((id) => found.get(id) ?? null);
}

/** A job that holds a unique key, and its attempts. */
interface Holder {
  readonly entry: Entry;
  readonly attempts: readonly Attempt[];
}

/** The unique key of a job, as stored. */
function keyOf(job: Job): string | null {
  return cleaned(heldKey(job));
}

/**
 * Indexes of jobs. Jobs that cannot conflict with others come first, in their original order; the rest follow in an order that is the same
 * in all transactions.
 */
function inOrderOfKeys(jobs: readonly Job[], once: boolean): number[] {
  return inOrder(
    jobs.map((job) => {
      const key = keyOf(job);
      if (key !== null) return `2 ${key}`;
      return once && job.workflow === null ? `1 ${job.id}` : '';
    }),
  );
}

/** The indexes of texts, sorted by text. */
function inOrder(given: readonly string[]): number[] {
  const at = (i: number) => given[i] as string;
  return [...given.keys()].sort((a, b) => (at(a) === at(b) ? a - b : at(a) < at(b) ? -1 : 1));
}

/** Splits jobs into one chunk per statement. */
function chunksOf(jobs: readonly Job[]): Job[][] {
  return chunks(jobs, maxBatchSize, sizeOf);
}

function rowsOf(jobs: readonly Job[]): string {
  return records(jobs.map((job) => insertedRow(job, heldKey(job))));
}

function cleanedSet(set: NonNullable<Amendment['set']>): NonNullable<Amendment['set']> {
  const { reason, cancelRequested } = set;
  if (reason == null && cancelRequested == null) return set;
  return {
    ...set,
    ...(reason === undefined ? {} : { reason: cleaned(reason) }),
    ...(cancelRequested === undefined ? {} : { cancelRequested: cleaned(cancelRequested) }),
  };
}
