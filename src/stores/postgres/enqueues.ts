/**
 * Groups plain enqueues into statements. Enqueues that are made in the same tick, or while other groups are being committed, share a
 * commit. If one enqueue of a group is invalid, only that one fails.
 */
import { isEscapementError, StoreError } from '../../core/errors.ts';
import type { Job } from '../../core/types.ts';
import { plainValues } from '../sql/rows.ts';
import { chunks, maxTextLength, sizeOf } from './chunks.ts';
import { type Connection, hotMs } from './connection.ts';
import { insertedRow } from './rows.ts';
import { records, type Value } from './session.ts';

interface Pending {
  readonly jobs: readonly Job[];
  /** The number of characters in its jobs. */
  readonly size: number;
  resolve(): void;
  reject(error: unknown): void;
}

/** How many groups are committed at the same time. */
const maxGroups = 2;
const maxBatchSize = 2_000;

export function enqueuesSql(schema: string) {
  return {
    plain: `INSERT INTO ${schema}.jobs (id, task, queue, input, enqueued_at, state, priority, due_at, attempt, max_attempts, claim, losses)
      SELECT id, task, queue, input, enqueued_at, 'queued', priority, due_at, 0, max_attempts, 0, 0
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::integer[], $7::bigint[], $8::integer[])
        j(id, task, queue, input, enqueued_at, priority, due_at, max_attempts)`,
  };
}

export class Enqueues {
  readonly #connection: Connection;
  readonly #plain: string;
  readonly #insert: string;
  #pending: Pending[] = [];
  #groups = 0;
  #isScheduled = false;

  /** @param insert the statement for jobs of every kind */
  constructor(connection: Connection, { plain }: ReturnType<typeof enqueuesSql>, insert: string) {
    this.#connection = connection;
    this.#plain = plain;
    this.#insert = insert;
  }

  add(jobs: readonly Job[]): Promise<void> {
    const size = jobs.reduce((sum, job) => sum + sizeOf(job), 0);
    return new Promise((resolve, reject) => {
      this.#pending.push({ jobs, size, resolve, reject });
      if (this.#isScheduled || this.#groups >= maxGroups) return;
      this.#isScheduled = true;
      queueMicrotask(() => {
        this.#isScheduled = false;
        void this.#flush();
      });
    });
  }

  async #flush(): Promise<void> {
    while (this.#pending.length > 0 && this.#groups < maxGroups) {
      this.#groups += 1;
      const group = this.#take();
      try {
        await this.#commit(group);
      } finally {
        this.#groups -= 1;
      }
    }
  }

  #take(): Pending[] {
    let count = 0;
    let total = 0;
    let end = 0;
    for (const { jobs, size } of this.#pending) {
      if (end > 0 && (count + jobs.length > maxBatchSize || total + size > maxTextLength)) break;
      count += jobs.length;
      total += size;
      end += 1;
    }
    return this.#pending.splice(0, end);
  }

  async #commit(group: readonly Pending[]): Promise<void> {
    try {
      await this.#write(group.flatMap(({ jobs }) => jobs));
    } catch (error) {
      if (group.length > 1 && isCallersError(error)) await this.#insertEach(group);
      else for (const { reject } of group) reject(error);
      return;
    }
    for (const { resolve } of group) resolve();
  }

  async #insertEach(group: readonly Pending[]): Promise<void> {
    for (const { jobs, resolve, reject } of group) await this.#write(jobs).then(resolve, reject);
  }

  async #write(jobs: readonly Job[]): Promise<void> {
    const [first, ...others] = chunks(jobs, Number.POSITIVE_INFINITY, sizeOf);
    if (!first) return;
    if (others.length === 0) {
      await this.#connection.query(...this.#statement(first));
      return;
    }
    // A single enqueue with many long inputs still inserts all of them or none.
    await this.#connection.transact(
      async (session) => {
        for (const part of [first, ...others]) await session.run(...this.#statement(part));
      },
      hotMs * (1 + others.length),
    );
  }

  #statement(jobs: readonly Job[]): [string, Value[]] {
    const columns: (string | number | null)[][] = [[], [], [], [], [], [], [], []];
    for (const job of jobs) {
      if (plainValues(job, 'queued') === undefined) return [this.#insert, [records(jobs.map((one) => insertedRow(one, null)))]];
      const values = [job.id, job.task, job.queue, job.input, job.enqueuedAt, job.priority, job.dueAt, job.maxAttempts];
      for (const [i, value] of values.entries()) columns[i]?.push(value);
    }
    return [this.#plain, columns];
  }
}

/** True for errors caused by one enqueue of a group. Other errors affect the whole group. */
function isCallersError(error: unknown): boolean {
  return !isEscapementError(error) || (error instanceof StoreError && (error.kind === 'conflict' || error.kind === 'invalid'));
}
