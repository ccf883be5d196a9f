/** Checks what the clients of a queue observed for broken guarantees. Pure. */

/** A line written by a process. */
export interface Line {
  /** Milliseconds. */
  readonly at: number;
  /**
   * `asked`: it is about to enqueue these jobs; `acknowledged`: the queue has them. `begun`, `ended`: the function of a job. `settled`: the
   * queue has acknowledged the job's end. `uncaught`: an error that would have ended the process.
   */
  readonly what: string;
  readonly ids: readonly string[];
  readonly process: string;
}

/** A fault injected into a process, and its duration. */
export interface Harm {
  readonly process: string;
  readonly from: number;
  to: number;
}

export interface End {
  /** Jobs that ended without success, and why. */
  readonly failed: readonly { readonly id: string; readonly why: string }[];
  /** The number of jobs that have not ended. */
  readonly left: number;
  /** Whether jobs whose id begins with `one` run one at a time. */
  readonly hasLimit: boolean;
}

export function check(lines: readonly Line[], harms: readonly Harm[], { failed, left, hasLimit }: End) {
  const asked = new Set<string>();
  const acknowledged = new Set<string>();
  const ended = new Map<string, number>();
  const settledAt = new Map<string, number>();
  /** The runs that have begun and not ended, by job. */
  const running = new Map<string, { readonly process: string; readonly at: number }>();
  const violations: string[] = [];
  const counts = { again: 0, 'twice at once': 0, 'over the limit': 0, 'ended twice': 0, 'not enqueued': 0, uncaught: 0 };
  let runs = 0;
  const violated = (kind: keyof typeof counts, text: string) => {
    counts[kind] += 1;
    violations.push(`${kind}: ${text}`);
  };
  /** A process that was killed or paused no longer holds its jobs: their leases end, and others take over. */
  const isSound = (process: string, from: number, to: number) =>
    !harms.some((harm) => harm.process === process && harm.from <= to && harm.to >= from);
  let holder: { readonly id: string; readonly process: string; readonly at: number } | undefined;
  for (const { at, what, ids, process } of lines) {
    const [id = ''] = ids;
    if (what === 'uncaught') violated('uncaught', `${process}: ${id}`);
    else if (what === 'asked') for (const one of ids) asked.add(one);
    else if (what === 'acknowledged') for (const one of ids) acknowledged.add(one);
    else if (what === 'settled') {
      if (settledAt.has(id)) violated('ended twice', `the end of ${id} was acknowledged in ${process}, and earlier`);
      else settledAt.set(id, at);
    } else if (what === 'begun') {
      runs += 1;
      if (!asked.has(id)) violated('not enqueued', `${id} began in ${process}, but was not enqueued`);
      const settled = settledAt.get(id);
      if (settled !== undefined && settled < at)
        violated('again', `${id} began ${Math.round(at - settled)} ms after its end was acknowledged`);
      const other = running.get(id);
      if (other && other.process !== process && isSound(other.process, other.at, at))
        violated(
          'twice at once',
          `${id} began in ${process} while it had been running in ${other.process} for ${Math.round(at - other.at)} ms`,
        );
      running.set(id, { process, at });
      if (hasLimit && id.startsWith('one')) {
        if (holder && holder.id !== id && isSound(holder.process, holder.at, at))
          violated('over the limit', `${id} began in ${process} while ${holder.id} was running in ${holder.process}`);
        holder = { id, process, at };
      }
    } else if (what === 'ended') {
      ended.set(id, (ended.get(id) ?? 0) + 1);
      if (running.get(id)?.process === process) running.delete(id);
      if (holder?.id === id && holder.process === process) holder = undefined;
    }
  }
  const givenUp = new Set(failed.map(({ id }) => id));
  const poisoned = failed.filter(({ why }) => why === 'poisoned').length;
  const lost = [...acknowledged].filter((id) => !ended.has(id) && !givenUp.has(id));
  for (const id of lost) violations.push(`lost: ${id}`);
  for (const { id, why } of failed) if (why !== 'poisoned') violations.push(`failed: ${id} (${why})`);
  if (left > 0) violations.push(`stuck: ${left} jobs have not ended`);
  const table = {
    acknowledged: acknowledged.size,
    runs,
    'more than once': [...ended.values()].filter((count) => count > 1).length,
    lost: lost.length,
    stuck: left,
    ...counts,
    failed: failed.length - poisoned,
    'given up after three kills': poisoned,
  };
  return { violations, table };
}
