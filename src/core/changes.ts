/**
 * Changes to jobs: how a settlement or an amendment changes a row (`planSettlement`, `planAmendment`; every store calls them), the events of
 * ended attempts, and the hints that wake workers. Pure; shared by stores, workers and the janitor.
 */
import type { Event } from './events.ts';
import { takesPlace } from './gate.ts';
import { alreadySettled, amended, ended, isFenced, isFinished, pruneAt, settled, signalled } from './job.ts';
import type { Amendment, Attempt, Hint, Job, Settlement } from './types.ts';
import { heldKey } from './unique.ts';
import { affectsOthers, asPart, isRevived } from './workflow.ts';

/** True if a settlement would have queued its job again but the job was cancelled, because cancellation had been requested. */
export function endedAsCancelled(job: Pick<Job, 'status'>, settlement: Pick<Settlement, 'status'>): boolean {
  return job.status === 'cancelled' && settlement.status === 'queued';
}

/** The attempt that a settlement ended. */
export interface Ending {
  /** The row after the settlement. */
  readonly job: Job;
  readonly settlement: Settlement;
  readonly worker: string;
  readonly attempt: number;
}

/** The events of an ended attempt, in order. */
export function endingEvents({ job, settlement, worker, attempt }: Ending): readonly Event[] {
  const { outcome, error, dueAt } = settlement;
  const common = { at: settlement.settledAt, job, worker, attempt };
  const orphaned: readonly Event[] = outcome === 'lost' && error ? [{ ...common, type: 'orphaned', error }] : [];
  if (job.status === 'cancelled') return [...orphaned, { ...common, type: 'cancelled' }];
  if (job.status === 'failed') return [...orphaned, { ...common, type: 'failed', error }];
  if (outcome === 'lost') return orphaned;
  if (outcome === 'snoozed') return [{ ...common, type: 'snoozed', dueAt }];
  if (outcome === 'failed') return error ? [{ ...common, type: 'retrying', error, dueAt }] : [];
  return [{ ...common, type: outcome }];
}

/**
 * The events of jobs that changed because others of their workflow did.
 * @param isAgain true if those other jobs run again; otherwise they have ended
 */
export function dependentEvents(dependents: readonly Job[], at: number, isAgain = false): readonly Event[] {
  return dependents.flatMap((job): Event[] => {
    if (job.status === 'cancelled') return [{ type: 'cancelled', at, job, worker: null, attempt: job.attempt }];
    // The worker of a running job reports its end.
    if (job.status === 'running') return [];
    return [{ type: isAgain ? 'requeued' : 'unblocked', at, job }];
  });
}

/**
 * The answer to a settlement that changes nothing: the row as the settlement left it if it was applied before, otherwise null.
 * @param job the current row; it may have been claimed again, cancelled or retried since
 * @param attempt its attempt under the settlement's claim
 */
function repeated(job: Job, attempt: Attempt | undefined, settlement: Settlement): Job | null {
  if (!alreadySettled(attempt, settlement)) return null;
  const wasCancelled = job.claim === settlement.claim && endedAsCancelled(job, settlement) && job.finishedAt === settlement.settledAt;
  return settled({ ...job, claim: settlement.claim, cancelRequested: wasCancelled ? job.reason : null }, settlement);
}

/** How a settlement changes a row. */
export interface SettlementPlan {
  /** The answer to the caller. */
  readonly answer: Job | null;
  /** The ended attempt; undefined: nothing changes. */
  readonly attempt: Attempt | undefined;
  /** Whether the row is deleted, with everything stored under its id. */
  readonly isPruned: boolean;
}

/**
 * Law 2.
 * @param job the current row, which the caller has locked
 * @param attempt the job's attempt under the settlement's claim
 * @param hasSignal whether a signal with this name is pending
 */
export function planSettlement(
  job: Job,
  attempt: Attempt | undefined,
  settlement: Settlement,
  hasSignal: (name: string) => boolean,
): SettlementPlan {
  if (job.status !== 'running' || isFenced(job, settlement) || !attempt)
    return { answer: repeated(job, attempt, settlement), attempt: undefined, isPruned: false };
  if (settlement.confirm) return { answer: null, attempt: undefined, isPruned: false };
  const after = settled(job, settlement);
  // The signal arrived while the job was running.
  const isSignalled = after.awaits !== null && hasSignal(after.awaits);
  const answer = isSignalled ? (signalled(after, after.awaits as string, settlement.settledAt) ?? after) : after;
  const isPruned = settlement.prune === true && isFinished(answer) && answer.workflow === null;
  return { answer, attempt: ended(attempt, settlement), isPruned };
}

/** What the caller knows about a row to amend. */
export interface AmendedRow {
  readonly job: Job;
  /** Whether the job waits for room in its gate. */
  readonly isBlocked: boolean;
  /** Whether the job is part of a workflow and has unfinished parents. */
  readonly isWaiting: boolean;
  /** The job of its workflow that prevents it from running again. */
  readonly obstacle: Job | undefined;
}

/** How an amendment changes a row. */
export interface AmendmentChange {
  /** The row after the change; undefined if it is deleted. */
  readonly job: Job | undefined;
  /** Whether fields that attempts do not change have changed. */
  readonly isEdited: boolean;
  /** The unique key that the row needs and does not hold yet. If another job holds it, that job is the answer, and nothing changes. */
  readonly wantedKey: string | null;
  /** Whether another job of its gate takes its place. */
  readonly leavesPlace: boolean;
  /** The change that other jobs of its workflow follow; undefined: they do not change. */
  readonly followed: Job | undefined;
}

/** The effect of an amendment on a row. */
export interface AmendmentPlan {
  /** The answer to the caller. */
  readonly answer: Job | null;
  /** Undefined: nothing changes. */
  readonly change: AmendmentChange | undefined;
}

/** Law 5. @param row the current row, which the caller has locked */
export function planAmendment(
  { job: before, isBlocked, isWaiting, obstacle }: AmendedRow,
  amendment: Amendment,
  now: number,
): AmendmentPlan {
  const { set } = amendment;
  const after = amended(before, amendment);
  if (!after) return { answer: null, change: undefined };
  const job = asPart(after, isWaiting);
  if (obstacle && isRevived(before, job)) return { answer: obstacle, change: undefined };
  // To the other jobs, a deleted job has ended.
  const left = set ? job : { ...job, status: 'cancelled' as const };
  const change: AmendmentChange = {
    job: set ? job : undefined,
    isEdited: set?.input !== undefined || set?.queue !== undefined || set?.runAfter !== undefined,
    wantedKey: set && heldKey(before) === null ? heldKey(job) : null,
    leavesPlace: takesPlace(before, isBlocked, now) && !(set && takesPlace(job, false, now)),
    followed: affectsOthers(before, left) ? left : undefined,
  };
  return { answer: job, change };
}

/** The hints for jobs that were inserted or changed. */
export function hintsOf(jobs: readonly Job[]): readonly Hint[] {
  let dueAt = Number.POSITIVE_INFINITY;
  let overdueAt = Number.POSITIVE_INFINITY;
  let isCancelled = false;
  let hasFinished = false;
  let endsAt = Number.POSITIVE_INFINITY;
  for (const job of jobs) {
    if (job.status === 'queued') {
      dueAt = Math.min(dueAt, job.dueAt);
      if (job.startedAt === null) overdueAt = Math.min(overdueAt, job.expiresAt ?? Number.POSITIVE_INFINITY);
    } else if (isFinished(job)) {
      hasFinished = true;
      endsAt = Math.min(endsAt, pruneAt(job) ?? Number.POSITIVE_INFINITY);
    } else if (job.status === 'running' && job.cancelRequested !== null) isCancelled = true;
  }
  const hints: Hint[] = [];
  if (dueAt < Number.POSITIVE_INFINITY) hints.push(overdueAt < Number.POSITIVE_INFINITY ? { dueAt, overdueAt } : { dueAt });
  if (isCancelled) hints.push({ cancelled: true });
  if (hasFinished) hints.push(endsAt < Number.POSITIVE_INFINITY ? { finished: true, pruneAt: endsAt } : { finished: true });
  return hints;
}
