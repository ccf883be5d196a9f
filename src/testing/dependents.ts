/**
 * I8: the invariant checker's model of jobs that wait for others, checked when one of these ends. It deliberately does not use
 * `core/workflow`, which all stores share.
 */
import type { Job } from '../core/types.ts';
import type { Edge } from '../core/workflow.ts';
import { isOver, type Model } from './model.ts';

interface Around {
  readonly model: Model;
  label(id: string): string;
  report(job: Job, what: string): void;
}

type Ended = 'well' | 'badly' | undefined;

export class Dependents {
  readonly #around: Around;
  readonly #parents = new Map<string, string[]>();
  readonly #children = new Map<string, string[]>();
  /** The values of parents that have been deleted. */
  readonly #gone = new Map<string, { readonly ended: Ended; readonly value: string }>();

  constructor(around: Around) {
    this.#around = around;
  }

  inserted(edges: readonly Edge[] | undefined): void {
    for (const { parent, child } of edges ?? []) {
      const parents = this.#parents.get(child) ?? [];
      // Jobs inserted with `once` may already have their edges.
      if (parents.includes(parent)) continue;
      this.#parents.set(child, [...parents, parent]);
      this.#children.set(parent, [...(this.#children.get(parent) ?? []), child]);
    }
  }

  deleted(job: Job): void {
    const ended = this.#ended(job.id);
    this.#gone.set(job.id, { ended: ended ?? 'badly', value: givenBy(job) });
  }

  /**
   * Checks the rows that changed because other jobs ended or run again.
   * @param ended the ids of those jobs
   * @param isAtOnce false: other calls may have taken effect in the meantime
   */
  changed(rows: readonly Job[], ended: readonly string[], isAtOnce: boolean): void {
    const { model, label, report } = this.#around;
    for (const row of rows) if (isOver(model.get(row.id)) && !isOver(row)) model.replaced(row);
    for (const row of rows) {
      const before = model.get(row.id);
      if (!before) continue;
      const bad = this.#bad(before);
      const open = (this.#parents.get(row.id) ?? []).find((id) => !this.#isDone(before, id));
      if (row.status === 'queued' && before.status === 'waiting') {
        if (open !== undefined) report(row, `I8: it was released, but ${label(open)} has not succeeded`);
        else this.#checkInput(row, before);
      } else if (row.status === 'cancelled') {
        if (bad === undefined && !this.#isEndedByWorkflow(before))
          report(row, 'I8: it was cancelled, but no job that it waits for has failed');
      } else if (row.status === 'waiting' && open === undefined)
        report(row, 'I8: it waits again, but all jobs that it waits for have ended');
      model.replaced(row);
    }
    if (!isAtOnce) return;
    for (const id of new Set([...ended, ...rows.map((row) => row.id)].flatMap((one) => this.#children.get(one) ?? []))) {
      const job = model.get(id);
      if (job?.status !== 'waiting') continue;
      const bad = this.#bad(job);
      if (bad !== undefined) report(job, `I8: ${label(bad)} has failed, but it still waits`);
      else if ((this.#parents.get(id) ?? []).every((parent) => this.#isDone(job, parent)))
        report(job, 'I8: the last job that it waits for has ended, but it was not released in the same call');
    }
  }

  #checkInput(row: Job, before: Job): void {
    const values = (this.#parents.get(row.id) ?? []).map((id) => {
      const job = this.#around.model.get(id);
      return job ? givenBy(job) : (this.#gone.get(id)?.value ?? 'null');
    });
    const fill = row.part?.fill;
    const wanted = fill === 'all' ? `[${values.join(',')}]` : fill === 'first' ? values[0] : fill === 'none' ? before.input : undefined;
    if (wanted !== undefined && row.input !== wanted) this.#around.report(row, `I8: its input is ${row.input}, not ${wanted}`);
  }

  /** A parent whose end cancels the job. */
  #bad(job: Job): string | undefined {
    if (job.part?.always) return undefined;
    return this.#parents.get(job.id)?.find((id) => this.#ended(id) === 'badly');
  }

  #isDone(job: Job, parent: string): boolean {
    const ended = this.#ended(parent);
    return ended === 'well' || (ended === 'badly' && job.part?.always === true);
  }

  #isEndedByWorkflow({ workflow }: Job): boolean {
    for (const job of this.#around.model.jobs)
      if (job.workflow === workflow && job.status === 'failed' && job.part?.onFailure === 'workflow') return true;
    return false;
  }

  #ended(id: string): Ended {
    const job = this.#around.model.get(id);
    if (!job) return this.#gone.get(id)?.ended;
    if (job.status === 'successful') return 'well';
    if (job.status === 'failed' || job.status === 'cancelled') return job.part?.allowFailure ? 'well' : 'badly';
    return undefined;
  }
}

function givenBy({ status, returnValue }: Job): string {
  return status === 'successful' && returnValue !== null ? returnValue : 'null';
}
