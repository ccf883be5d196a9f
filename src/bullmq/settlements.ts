/** Settlements of jobs that do not run, the data kept after a run, and the error that reports a failure to BullMQ. Pure. */
import { decide } from '../core/decide.ts';
import { LeaseLostError } from '../core/errors.ts';
import { type RecordedError, recordError } from '../core/failure.ts';
import type { Attempt, Job, Settlement } from '../core/types.ts';
import { type Begun, type Kept, keptAfter, keptEnd, keptLost, unknownWorker } from './rows.ts';

/** Thrown to BullMQ for a job that failed, will be retried, or was cancelled. Its message and stack are those of the task's error. */
export class Failed extends Error {
  readonly settlement: Settlement;
  constructor(settlement: Settlement) {
    const { error, reason, status } = settlement;
    super(error ? `${error.name}: ${error.message}` : `${status}: ${reason}`);
    this.stack = error?.stack ?? this.message;
    this.settlement = settlement;
  }
}

/** The settlement of a job that ends, or is returned to the queue, without having run. */
export function endedAs(job: Job, status: Settlement['status'], reason: string | null, at: number): Settlement {
  const { attempt, losses } = job;
  return { ...decideSimply(job, { kind: 'cancelled', reason: '' }, at), status, reason, attempt, losses };
}

/** The consequences of runs that began and have no outcome. */
export interface Lost {
  readonly keep: (kept: Kept) => Kept;
  /** The settlement if the job ends; null if it may run again. */
  readonly end: Settlement | null;
}

/**
 * The runs that were lost before one that has just begun; undefined if there are none.
 * @param job the row with the run that has begun
 * @param before the latest run before it
 */
export function lostBefore(job: Job, kept: Kept, before: Begun | null, now: number): Lost | undefined {
  const runs = before?.runs ?? 0;
  const count = runs - (kept.settledRuns ?? 0);
  if (count <= 0) return undefined;
  const error = lostError(job);
  const lost = Array.from({ length: count }, (_, i): Attempt => {
    const known = i === count - 1 ? before : null;
    return {
      attempt: Math.max(1, job.attempt - (count - i)),
      claim: known?.claim ?? job.claim,
      worker: known?.worker ?? unknownWorker,
      startedAt: known?.at ?? now,
      endedAt: now,
      outcome: 'lost',
      error,
    };
  });
  const after = decideSimply({ ...job, attempt: job.attempt - 1, losses: job.losses - 1 }, { kind: 'lost', error }, now);
  const end = after.status === 'failed' ? after : null;
  return { keep: (given) => keptLost(given, lost, runs, job.losses, end !== null), end };
}

/**
 * The kept data of a settled job; undefined if BullMQ has a field for all of it.
 * @param runs the number of runs, including this one; 0: it did not run
 */
export function keptOf(job: Job, worker: string, runs: number, settlement: Settlement): ((kept: Kept) => Kept) | undefined {
  const { status, metadata, returnValue, settledAt } = settlement;
  if (status === 'successful') {
    const returnsNull = returnValue === 'null';
    if (metadata === undefined && !returnsNull) return undefined;
    return (kept) => ({ ...kept, ...(metadata ? { metadata } : {}), ...(returnsNull ? { returnsNull } : {}) });
  }
  if (runs === 0) return (kept) => keptEnd(kept, settlement);
  const { attempt, claim, lastAttemptedAt } = job;
  const running: Attempt = { attempt, claim, worker, startedAt: lastAttemptedAt ?? settledAt, endedAt: null, outcome: null, error: null };
  return (kept) => keptAfter(kept, running, settlement, runs);
}

export function lostError(job: Job): RecordedError {
  return { ...recordError(new LeaseLostError(`the worker of job ${job.id} died, or lost its lock in Redis`)), stack: '' };
}

function decideSimply(job: Job, outcome: Parameters<typeof decide>[2], now: number): Settlement {
  return decide(job, { kind: 'list', delaysMs: [0], jitter: 0 }, outcome, now, 0);
}
