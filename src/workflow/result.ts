/** A caller's view of a workflow: a snapshot of its jobs that `refresh` updates, and operations on all of them. */
import type { App } from '../app.ts';
import { type Duration, durationMs, formatDuration } from '../core/duration.ts';
import { ResultNotFoundError, ResultNotReadyError } from '../core/errors.ts';
import type { Status } from '../core/types.ts';
import type { Part, Shape } from '../core/workflow.ts';
import { cancelParts, retryParts } from '../engine/operator.ts';
import { OptionReader } from '../options/reader.ts';
import type { Store } from '../ports/store.ts';
import { partIn, resultOf, type TaskResult } from '../result.ts';

/** `running` until all of its jobs have ended. `failed` if a part without `allowFailure` failed, `cancelled` if one was cancelled. */
export type WorkflowStatus = 'running' | 'successful' | 'failed' | 'cancelled';

const page = 500;
const inspectCustom: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never;

/** The return value of a workflow's `enqueue`. `Output` is what the workflow returns. */
export class WorkflowResult<Output = unknown> {
  readonly #app: App;
  readonly #alias: string;
  readonly id: string;
  /** The name given in its options; otherwise `chain`, `group` or `workflow`. */
  readonly name: string;
  readonly #empty: unknown;
  #jobs: readonly TaskResult[];

  /**
   * @internal
   * @param empty the value of a workflow without jobs
   */
  constructor(app: App, alias: string, id: string, name: string, jobs: readonly TaskResult[], empty?: unknown) {
    this.#app = app;
    this.#alias = alias;
    this.id = id;
    this.name = name;
    this.#jobs = inOrder(jobs);
    this.#empty = empty;
  }

  /** Its jobs, in the order in which they were added; jobs added while it ran come last. As of the last refresh. */
  get jobs(): readonly TaskResult[] {
    return this.#jobs;
  }

  /**
   * The job of a part.
   * @param key the part's name, or that of its task
   * @throws ResultNotFoundError if there is none
   */
  part(key: string): TaskResult {
    const found = this.#jobs.find((job) => job.part === key);
    if (found) return found;
    const keys = this.#jobs.flatMap(({ part }) => part ?? []).slice(0, 20);
    throw new ResultNotFoundError(`workflow ${this.id} has no part ${key}; its parts: ${keys.join(', ')}`);
  }

  /** As of the last refresh. */
  get status(): WorkflowStatus {
    if (!this.isFinished) return 'running';
    const ends = new Set(this.#jobs.filter((job) => !partIn(job)?.allowFailure).map(({ status }) => status));
    return ends.has('failed') ? 'failed' : ends.has('cancelled') ? 'cancelled' : 'successful';
  }
  get isFinished(): boolean {
    return this.#jobs.every(({ isFinished }) => isFinished);
  }
  /** How many of its jobs have ended, regardless of how. */
  get progress(): { readonly finished: number; readonly total: number; readonly fraction: number } {
    const total = this.#jobs.length;
    const finished = this.#jobs.filter(({ isFinished }) => isFinished).length;
    return { finished, total, fraction: total === 0 ? 1 : finished / total };
  }
  /** The number of jobs in each status; statuses without jobs are omitted. */
  get counts(): Readonly<Partial<Record<Status, number>>> {
    const counts: Partial<Record<Status, number>> = {};
    for (const { status } of this.#jobs) counts[status] = (counts[status] ?? 0) + 1;
    return counts;
  }

  /**
   * The workflow's value: the value of a chain's last part, or an array of the values of a group. A part with `allowFailure` that failed
   * has the value null.
   * @throws ResultNotReadyError unless these parts had ended as of the last refresh
   */
  get returnValue(): Output {
    const places = this.#jobs.filter((job) => typeof partIn(job)?.place === 'number');
    const shape = places[0] && partIn(places[0])?.output;
    if (shape === undefined) return this.#empty as Output;
    const value = (of: Shape): unknown => {
      if (typeof of === 'number') return valueOfPart(places[of] as TaskResult);
      if (!('edge' in of)) return of.map(value);
      return of.path.reduce<unknown>((whole, key) => (whole as Record<string | number, unknown> | null)?.[key], value(of.edge));
    };
    return value(shape) as Output;
  }

  /**
   * Reads its jobs again, updates this object and resolves to it.
   * @throws ResultNotFoundError if all of its jobs have been pruned
   */
  async refresh(): Promise<this> {
    if (this.#jobs.length === 0) return this;
    const jobs = await readParts(this.#app, this.#alias, this.id);
    if (jobs.length === 0)
      throw new ResultNotFoundError(`workflow ${this.id} does not exist; finished jobs are deleted after their retention`);
    this.#jobs = inOrder(jobs);
    return this;
  }

  /**
   * Waits until all of its jobs have ended, regardless of how.
   * @param options.timeout the maximum time to wait. Default: no limit
   * @throws ResultNotReadyError after the timeout
   */
  async wait(options: { timeout?: Duration } = {}): Promise<this> {
    OptionReader.given(options, 'wait()', ['timeout']);
    const { clock } = this.#app.binding.host;
    const timeoutMs = options.timeout === undefined ? undefined : durationMs(options.timeout, 'wait().timeout');
    const until = clock.now() + (timeoutMs ?? 0);
    for (;;) {
      // The last job usually ends last.
      const open = (await this.refresh()).jobs.findLast(({ isFinished }) => !isFinished);
      if (!open) return this;
      try {
        await open.wait(timeoutMs === undefined ? {} : { timeout: Math.max(0, until - clock.now()) });
      } catch (error) {
        if (!(error instanceof ResultNotReadyError)) throw error;
        const { finished, total } = (await this.refresh()).progress;
        throw new ResultNotReadyError(
          `workflow ${this.id} has finished ${finished} of its ${total} jobs after ${formatDuration(timeoutMs ?? 0)}`,
        );
      }
    }
  }

  /**
   * Cancels all of its unfinished jobs, except parts that always run, and jobs that undo others: an undo that has begun is completed.
   * @param reason stored with the jobs. Default `'cancelled'`
   */
  async cancel(reason = 'cancelled'): Promise<this> {
    await cancelParts(this.#app.binding.host, await this.#store(), this.id, reason);
    return this.refresh();
  }

  /**
   * Runs its failed and cancelled jobs again, and those that were undone. The jobs that depend on these wait for them again, even if they
   * always run.
   * @throws InputError while it is being undone, or if a part that was undone has been deleted
   */
  async retry(): Promise<this> {
    await retryParts(this.#app.binding.host, await this.#store(), this.id);
    await this.#app.backend(this.#alias).requeued();
    return this.refresh();
  }

  #store(): Store | Promise<Store> {
    return this.#app.backend(this.#alias).open();
  }

  /** For `JSON.stringify`, logs and test output. */
  toJSON(): Record<string, unknown> {
    const { id, name, status, progress, counts } = this;
    return { id, name, status, progress, counts };
  }

  /** For `console.log`. */
  [inspectCustom](_: number, options: object, inspect: (value: unknown, options: object) => string): string {
    return `WorkflowResult ${inspect(this.toJSON(), options)}`;
  }
}

function valueOfPart(job: TaskResult): unknown {
  if (job.isFinished && job.status !== 'successful' && partIn(job)?.allowFailure) return null;
  return job.returnValue;
}

function inOrder(jobs: readonly TaskResult[]): readonly TaskResult[] {
  const place = (job: TaskResult) => partIn(job)?.place ?? Number.POSITIVE_INFINITY;
  return [...jobs].sort((a, b) => place(a) - place(b) || (a.id < b.id ? -1 : 1));
}

/** The jobs of a workflow, in any order. */
async function readParts(app: App, alias: string, id: string): Promise<TaskResult[]> {
  const store = await app.backend(alias).open();
  const jobs: TaskResult[] = [];
  let cursor: string | undefined;
  do {
    const found = await store.list({ workflow: id }, { now: app.binding.host.clock.now(), limit: page, cursor });
    for (const record of found.items) jobs.push(resultOf(app, alias, record));
    cursor = found.cursor ?? undefined;
  } while (cursor !== undefined);
  return jobs;
}

/** Returns the workflow with this id from the first of the backends that has it. @throws ResultNotFoundError */
export async function findWorkflow(app: App, id: string): Promise<WorkflowResult> {
  for (const alias of app.known.backends) {
    const { results, engine } = app.backend(alias).supports;
    if (!results || !engine) continue;
    const jobs = await readParts(app, alias, id);
    const part: Part | null | undefined = jobs[0] && partIn(jobs[0]);
    if (part) return new WorkflowResult(app, alias, id, part.of, jobs);
  }
  throw new ResultNotFoundError(`no workflow has the id ${id}; finished jobs are deleted after their retention`);
}
