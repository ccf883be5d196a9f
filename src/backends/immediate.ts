/**
 * A backend that runs a job where it is enqueued, before `enqueue` resolves: one attempt, no retry, errors recorded on the result (DEP 14's
 * ImmediateBackend). The attempt is the same as in a worker.
 */
import { dependentEvents, endingEvents } from '../core/changes.ts';
import type { Job, Settlement } from '../core/types.ts';
import { RunningAttempt } from '../engine/attempt.ts';
import type { Host } from '../engine/host.ts';
import { createJanitor } from '../engine/janitor.ts';
import { logFailure } from '../engine/verdict.ts';
import type { Backend, Enqueued, EnqueueTo } from '../ports/backend.ts';
import { MemoryStore } from '../stores/memory/store.ts';
import type { BackendSource } from './dummy.ts';
import { enqueued } from './engine.ts';

const worker = 'immediate';
const pruneEveryJobs = 1_000;

class ImmediateBackend implements Backend {
  readonly name = 'immediate';
  readonly supports = { defer: false, results: true, priority: false, transactions: false, workers: false, shared: false, engine: true };
  readonly #host: Host;
  readonly #store = new MemoryStore();
  /** A concurrent call may run the jobs that another call has enqueued; that call then waits for them here. */
  readonly #running = new Map<string, Promise<void>>();
  #untilPrune = pruneEveryJobs;

  constructor(host: Host) {
    this.#host = host;
  }

  open(): MemoryStore {
    return this.#store;
  }
  close(): void {}

  async enqueue(given: readonly Job[], options: EnqueueTo): Promise<readonly Enqueued[]> {
    const jobs = given.map((job) => ({ ...job, maxAttempts: 1 }));
    const taken = this.#store.insert(jobs, options);
    const answers = enqueued(this.#host, jobs, options.now, taken);
    await this.requeued();
    await Promise.all(answers.map(({ job }) => this.#running.get(job.id)));
    const now = this.#store.get(answers.map(({ job }) => job.id));
    const records = answers.map((answer, i) => ({ ...answer, ...now[i] }));
    this.#untilPrune -= jobs.length;
    if (this.#untilPrune <= 0) {
      this.#untilPrune = pruneEveryJobs;
      await createJanitor(this.#host, this.#store).step();
    }
    return records;
  }

  /** Runs all queued jobs, one at a time. */
  async requeued(): Promise<void> {
    for (;;) {
      const now = this.#host.clock.now();
      const claim = { worker, limit: 1, leaseUntil: Number.POSITIVE_INFINITY, tasks: this.#host.names(), now };
      const [job] = this.#store.claim(claim);
      if (!job) return;
      const run = this.#run(job, now);
      this.#running.set(job.id, run);
      await run;
      this.#running.delete(job.id);
    }
  }

  async #run(job: Job, startedAt: number): Promise<void> {
    const { events } = this.#host;
    events.emit({ type: 'started', at: startedAt, job, worker, attempt: job.attempt });
    const settlement = await new Promise<Settlement | null>((resolve) => {
      new RunningAttempt(this.#host, worker, job, { steps: this.#store, ended: (_, end) => resolve(end), blobs: this.#store }).start();
    });
    if (!settlement) return;
    const {
      settled: [row],
      dependents,
    } = this.#store.settle([settlement], { now: settlement.settledAt });
    if (!row) return;
    logFailure(this.#host, { ...job, worker }, settlement);
    for (const event of endingEvents({ job: row, settlement, worker, attempt: job.attempt })) events.emit(event);
    for (const event of dependentEvents(dependents, settlement.settledAt)) events.emit(event);
  }
}

/**
 * Runs each job where it is enqueued; the default backend.
 * @example createTasks({ backend: immediate() })
 */
export function immediate(): BackendSource {
  return { kind: 'backend', name: 'immediate', create: (host) => new ImmediateBackend(host) };
}
