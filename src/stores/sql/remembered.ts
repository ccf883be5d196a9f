/** Jobs that a SQL store has claimed and knows the rows of, so that the most common outcome is written without reading them again. */
import type { Job, Settlement } from '../../core/types.ts';

/** With more claimed jobs than this, their rows are read again. */
const mostRemembered = 50_000;

interface Known<Place> {
  readonly job: Job;
  /** Where its row is. */
  readonly place: Place;
}

export class Remembered<Place> {
  readonly #known = new Map<string, Known<Place>>();

  /** A job as it was claimed. */
  add(job: Job, place: Place): void {
    if (this.#known.size >= mostRemembered) this.#known.clear();
    this.#known.set(job.id, { job, place });
  }

  /** These rows have changed in other ways. */
  forget(changes: readonly { readonly id: string }[]): void {
    for (const { id } of changes) this.#known.delete(id);
  }

  /** The job that a settlement ends well, if nothing else depends on it or is to be written down; undefined: its row has to be read. */
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
