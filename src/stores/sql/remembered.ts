/** Jobs that a SQL store has claimed and whose rows it knows. The most common outcome is written without reading them again. */
import { TurnoverMap } from '../../core/turnover.ts';
import type { Job, Settlement } from '../../core/types.ts';

/** The maximum number of jobs remembered. The rows of others are read again. */
const maxRemembered = 50_000;

interface Known<Place> {
  readonly job: Job;
  /** The location of its row. */
  readonly place: Place;
}

export class Remembered<Place> {
  readonly #known = new TurnoverMap<string, Known<Place>>();

  /** Remembers a job as it was claimed. */
  add(job: Job, place: Place): void {
    if (this.#known.size >= maxRemembered) this.#known.clear();
    this.#known.set(job.id, { job, place });
  }

  /** Forgets rows that have changed in other ways. */
  forget(changes: readonly { readonly id: string }[]): void {
    for (const { id } of changes) this.#known.delete(id);
  }

  /**
   * The job that a settlement completes successfully, if nothing else depends on it or has to be written; undefined: its row must be read.
   */
  plain(settlement: Settlement): Known<Place> | undefined {
    const known = this.#known.get(settlement.id);
    return known && isPlainSuccess(known.job, settlement) ? known : undefined;
  }
}

function isPlainSuccess(job: Job, settlement: Settlement): boolean {
  const { claim, attempt, dueAt, outcome, status, confirm, losses, reason, log, metadata, prune } = settlement;
  const isPlain = confirm === undefined && losses === 0 && reason === null && log === undefined && metadata === undefined;
  return (
    isPlain &&
    outcome === 'successful' &&
    status === 'successful' &&
    claim === job.claim &&
    attempt === job.attempt &&
    dueAt === job.dueAt &&
    job.unique === null &&
    job.workflow === null &&
    (prune === true || job.overrides?.retention === undefined)
  );
}
