/** `ctx.workflow`: a job's view of its workflow, and the way to add jobs to it. */
import type { App } from '../app.ts';
import { show } from '../core/duration.ts';
import { InputError } from '../core/errors.ts';
import type { Job } from '../core/types.ts';
import type { Part } from '../core/workflow.ts';
import { OptionReader } from '../options/reader.ts';
import { resultOf, type TaskResult } from '../result.ts';
import { addToWorkflow } from './enqueue.ts';
import { isPiece, type Piece } from './flow.ts';
import { graphOf } from './graph.ts';

/** The workflow of a job. */
export interface PartContext {
  readonly id: string;
  readonly name: string;
  /** The key of the job's part. */
  readonly part: string;
  /** The jobs that it waited for, in the order of their values, except those that have been pruned. */
  parents(): Promise<TaskResult[]>;
  /**
   * Adds jobs to the workflow while this one runs. The jobs that wait for this one wait for them too, and get their values if their input
   * is a list of values. An attempt that runs again adds the same parts only once: parts are identified by their keys.
   * @param pieces tasks with an input, tasks that take none, and flows
   * @param options.blocking false: no job waits for them. Default: true
   */
  add(pieces: Piece | readonly Piece[], options?: { blocking?: boolean }): Promise<TaskResult[]>;
}

export function partContext(app: App, result: TaskResult, job: Job): PartContext | null {
  const { workflow, part } = job;
  if (workflow === null || part === null) return null;
  const store = () => app.backend(result.backend).open();
  const counts = new Map<string, number>();
  return {
    id: workflow,
    name: part.of,
    part: part.key,
    async parents() {
      const opened = await store();
      const [edges] = await opened.getEdges([job.id]);
      const records = await opened.get(edges?.parents ?? []);
      return records.flatMap((record) => (record ? [resultOf(app, result.backend, record)] : []));
    },
    async add(pieces, options = {}) {
      OptionReader.given(options, 'ctx.workflow.add()', ['blocking']);
      const all = Array.isArray(pieces) ? (pieces as readonly Piece[]) : [pieces as Piece];
      const other = all.find((piece) => !isPiece(piece));
      if (other !== undefined || all.length === 0)
        throw new InputError(`ctx.workflow.add() takes tasks with an input, tasks and flows; got ${show(other)}`);
      const turn = app.binding.turn?.();
      if (turn !== undefined) await turn;
      const graph = graphOf({ shape: { kind: 'group', parts: all } } as unknown as Piece);
      const [edges] = options.blocking === false ? [] : await (await store()).getEdges([job.id]);
      const idOf = ({ key }: { key: string }) => {
        const count = (counts.get(key) ?? 0) + 1;
        counts.set(key, count);
        return `${job.id}/${key.replace('#', '.')}${count === 1 ? '' : `/${count}`}`;
      };
      const now = app.binding.host.clock.now();
      return addToWorkflow(
        app,
        result,
        graph,
        { workflow, name: part.of, onFailure: (part as Part).onFailure, now, idOf },
        edges?.children ?? [],
      );
    },
  };
}
