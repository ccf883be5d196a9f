/**
 * A job that a worker has received from BullMQ: reads it, and writes to it under the job's lock. Makes no decisions. Calls are repeated
 * until Redis answers; the lock determines whether they still apply.
 */
import type { Job as BullJob, IRedisClient } from 'bullmq';
import { isExpired } from '../core/job.ts';
import { latestLines } from '../core/log.ts';
import type { Job, Settlement } from '../core/types.ts';
import { type Begun, begunOf, cancelField, dataOf, type Kept, ownId, parsed, recordOf, type Source, unknownWorker } from './rows.ts';

/** Repeats a call until Redis answers. */
export type WithRetries = <T>(call: () => Promise<T>) => Promise<T>;

/** The run that may begin: its record, and the previous one. */
export interface Beginning {
  readonly begun: Begun;
  readonly before: Begun | null;
}

export class HeldJob {
  readonly queue: string;
  readonly bull: BullJob;
  readonly token: string;
  /** The key of the job in Redis. */
  readonly key: string;
  readonly #client: IRedisClient;
  readonly #withRetries: WithRetries;

  constructor(queue: string, bull: BullJob, token: string, key: string, client: IRedisClient, withRetries: WithRetries) {
    this.queue = queue;
    this.bull = bull;
    this.token = token;
    this.key = key;
    this.#client = client;
    this.#withRetries = withRetries;
  }

  get kept(): Kept {
    return dataOf(this.bull.data).escapement;
  }

  /** The job's row. @param begun its latest run; null: unknown */
  row(begun: Begun | null): Job {
    const { bull } = this;
    const source: Source = {
      id: ownId(bull.id as string),
      queue: this.queue,
      name: bull.name,
      data: bull.data,
      timestamp: bull.timestamp,
      priority: bull.priority,
      attempts: 0,
      started: bull.attemptsStarted,
      begun,
      processedOn: bull.processedOn ?? null,
      processedBy: bull.processedBy ?? null,
      finishedOn: null,
      returned: null,
      failedReason: null,
      progress: bull.progress,
      isLocked: true,
      cancel: null,
      isCancelled: false,
    };
    return recordOf(source, Number.NEGATIVE_INFINITY).job;
  }

  /**
   * Counts the run that is about to begin. `cancelled`: the job was cancelled and must not run. Null: this worker no longer holds the job.
   */
  async begin(worker: string, at: number): Promise<Beginning | { readonly cancelled: NonNullable<Source['cancel']> } | null> {
    const expired = isExpired(this.row(null), at) ? 'expired' : '';
    const call = () => this.#client.runCommand('escapementBegin', [this.key, this.token, `${worker} ${at}`, expired]);
    const [cancel, text] = (await this.#withRetries(call)) as string[];
    if (cancel === undefined) return null;
    if (cancel === 'expired') return { cancelled: { reason: 'expired', at } };
    if (cancel !== '') return { cancelled: parsed(cancel) as NonNullable<Source['cancel']> };
    const before = begunOf(text);
    const claim = this.bull.attemptsStarted;
    // The first answer was lost, and with it the record of the run before.
    if (before?.claim === claim) return { begun: before, before: { ...before, runs: before.runs - 1, worker: unknownWorker } };
    return { begun: { runs: (before?.runs ?? 0) + 1, claim, worker, at }, before };
  }

  /** Its cancellation and the reason, if it has been cancelled. */
  async cancelled(): Promise<Source['cancel']> {
    return (parsed(await this.#client.hget(this.key, cancelField)) as Source['cancel'] | undefined) ?? null;
  }

  /**
   * Changes the data that BullMQ has no field for, and sets the state of the job. False: this worker no longer holds the job, and nothing
   * was changed.
   */
  async keep(change: (kept: Kept) => Kept, state: 'running' | 'retrying' | 'scheduled' | Settlement['status']): Promise<boolean> {
    const data = dataOf(this.bull.data);
    const changed = { ...data, escapement: change(data.escapement) };
    const args = [this.key, this.token, JSON.stringify(changed), state];
    const saved = await this.#withRetries(() => this.#client.runCommand('escapementSave', args));
    if (saved === 1) this.bull.data = changed;
    return saved === 1;
  }

  async log(lines: readonly string[]): Promise<void> {
    await this.#withRetries(async () => {
      for (const line of latestLines([...lines])) await this.bull.log(line);
    });
  }
}
