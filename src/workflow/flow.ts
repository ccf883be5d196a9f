/**
 * The building blocks of workflows: tasks, tasks with an input, and flows of these. A flow is only a description; `enqueue` creates its
 * jobs, all or none.
 */
import type { App } from '../app.ts';
import { show } from '../core/duration.ts';
import { InputError, WorkflowError } from '../core/errors.ts';
import type { OnPartFailure } from '../core/workflow.ts';
import { OptionReader } from '../options/reader.ts';
import type { EnqueueOptions, SyncTransaction, Task } from '../task.ts';
import { TaskHandle } from '../task.ts';
import { enqueueFlow } from './enqueue.ts';
import type { WorkflowResult } from './result.ts';
import { type output, type PartOptions, type Signature, SignatureOf } from './signature.ts';

/** Options of a workflow. */
export interface WorkflowOptions {
  /**
   * A name for lists and the dashboard.
   * @default 'chain', 'group', 'workflow' or the name of the only task
   */
  name?: string;
  /**
   * What happens when a part fails for good: `dependents` cancels the parts that wait for it, and others continue; `workflow` cancels
   * everything that has not ended.
   * @default 'dependents'
   */
  onFailure?: OnPartFailure;
}

/** Anything that a workflow is made of. */
// biome-ignore lint/suspicious/noExplicitAny: a task of any input
export type Piece<Output = unknown> = Task<any, Output> | Signature<Output> | Flow<Output>;

/** The return type of a piece. */
export type OutputOf<P> =
  P extends Flow<infer Output>
    ? Output
    : // biome-ignore lint/suspicious/noExplicitAny: a task of any input
      P extends Task<any, infer Output>
      ? Output
      : P extends Signature<infer Output>
        ? Output
        : never;

/** The pieces of a chain: each task without its own input must accept what the previous piece returns. */
export type Chained<Parts extends readonly unknown[], Before = void> = number extends Parts['length']
  ? readonly unknown[]
  : Parts extends readonly [infer First, ...infer Rest]
    ? readonly [Fitting<First, Before>, ...Chained<Rest, OutputOf<First>>]
    : readonly [];
type Fitting<P, Before> =
  P extends Task<infer Input, infer Output> ? ([Input] extends [void] ? P : [Before] extends [Input] ? P : Task<Before, Output>) : P;
type Last<Parts extends readonly unknown[]> = Parts extends readonly [...unknown[], infer One] ? One : never;
type Outputs<Parts extends readonly unknown[]> = { -readonly [Place in keyof Parts]: OutputOf<Parts[Place]> };

/** The structure of a flow. */
export type Shape =
  | { readonly kind: 'chain' | 'group'; readonly parts: readonly Piece[] }
  | { readonly kind: 'graph'; readonly build: (builder: WorkflowBuilder) => unknown };

/** A description of jobs that depend on each other. It can be part of another flow, and can be enqueued any number of times. */
export class Flow<Output = unknown> {
  declare readonly [output]?: Output;
  /** @internal */
  readonly app: App;
  /** @internal */
  readonly shape: Shape;
  /** @internal */
  readonly options: WorkflowOptions;

  /** @internal */
  constructor(app: App, shape: Shape, options: WorkflowOptions) {
    this.app = app;
    this.shape = shape;
    this.options = options;
  }

  /**
   * The flow, followed by another piece, which receives what the flow returns: for a group, an array of what its parts return, in order.
   * @example tasks.group([resize.with({ width: 100 }), resize.with({ width: 800 })]).then(publish)
   */
  // biome-ignore lint/suspicious/noThenProperty: what follows, in the words of the field; awaiting a flow is refused
  then<Next extends Piece>(next: Next & Fitting<Next, Output>): Flow<OutputOf<Next>> {
    if (!isPiece(next)) {
      // `await`, and a promise that resolves to a flow, call this method with two functions.
      throw new WorkflowError(
        typeof next === 'function'
          ? 'a workflow was awaited, which does not run it; write: await workflow.enqueue()'
          : `then() of a workflow takes a task, a task with an input, or a workflow; got ${show(next)}`,
      );
    }
    return new Flow<OutputOf<Next>>(this.app, { kind: 'chain', parts: [this as Piece, next as Piece] }, this.options);
  }

  /** The same flow with other options. */
  using(options: WorkflowOptions): Flow<Output> {
    return new Flow<Output>(this.app, this.shape, { ...this.options, ...readWorkflowOptions(options, 'using() of a workflow') });
  }

  /**
   * Enqueues all jobs of the workflow, or none.
   * @param options.transaction the caller's own open transaction: the jobs exist if it commits
   * @throws InputError if an input does not match its schema or cannot be stored as JSON
   * @throws WorkflowError if parts depend on each other in a cycle, or are on several backends
   */
  enqueue(options: { transaction: SyncTransaction }): WorkflowResult<Output>;
  enqueue(options?: Pick<EnqueueOptions, 'transaction'>): Promise<WorkflowResult<Output>>;
  enqueue(options?: Pick<EnqueueOptions, 'transaction'>): WorkflowResult<Output> | Promise<WorkflowResult<Output>> {
    return enqueueFlow(this, options);
  }
}

/** A part that was added with a builder. */
export interface PartHandle<Output = unknown> {
  /**
   * Stands for the part's return value, or a property of it, in the input of another part, which then waits for this one.
   * @example w.add(publish, { small: small.output, width: big.output.width })
   */
  readonly output: Output;
  /** Makes this part wait for others whose values it does not need. Returns this part. */
  after(...others: readonly PartHandle[]): this;
}

/** Adds parts to a workflow. */
export interface WorkflowBuilder {
  /**
   * Adds a task with its input, which may contain the `output` of other parts.
   * @param options.after parts that it waits for without needing their values
   */
  add<Input, Output>(
    task: Task<Input, Output>,
    ...rest: [Input] extends [void]
      ? [input?: undefined, options?: PartOptions<Output> & { after?: readonly PartHandle[] }]
      : [input: Input, options?: PartOptions<Output> & { after?: readonly PartHandle[] }]
  ): PartHandle<Output>;
  /** Adds a flow or a task with an input. */
  add<Output>(piece: Signature<Output> | Flow<Output>, options?: { after?: readonly PartHandle[] }): PartHandle<Output>;
}

/** The members of `tasks` that create workflows. */
export interface Workflows {
  /**
   * Pieces that run one after another. A task without its own input gets what the previous piece returns.
   * @example await tasks.chain([fetchPage.with({ url }), parse, store]).enqueue();
   */
  chain<const Parts extends readonly [Piece, ...Piece[]]>(
    parts: Parts & Chained<Parts>,
    options?: WorkflowOptions,
  ): Flow<OutputOf<Last<Parts>>>;
  /** Pieces that run in parallel. The value of a group is an array of their values, in order. */
  group<const Parts extends readonly Piece[]>(parts: Parts, options?: WorkflowOptions): Flow<Outputs<Parts>>;
  /** A group of jobs of one task, one for each input. */
  map<Input, Output>(task: Task<Input, Output>, inputs: readonly Input[], options?: WorkflowOptions): Flow<Output[]>;
  /** A group of jobs of a task that takes arrays. Each job gets `size` of the items. */
  chunks<Item, Output>(task: Task<Item[], Output>, items: readonly Item[], size: number, options?: WorkflowOptions): Flow<Output[]>;
  /**
   * Jobs with arbitrary dependencies on each other.
   * @param build adds the parts. The workflow's value is that of the part that it returns, or otherwise an array of the values of all parts
   * that no other part waits for.
   * @example tasks.workflow((w) => {
   *   const photo = w.add(download, { url });
   *   const small = w.add(resize, { file: photo.output, width: 100 });
   *   const large = w.add(resize, { file: photo.output, width: 800 });
   *   return w.add(publish, { files: [small.output, large.output] });
   * }).enqueue();
   */
  workflow<Output = unknown[]>(build: (builder: WorkflowBuilder) => PartHandle<Output> | void, options?: WorkflowOptions): Flow<Output>;
}

/** Creates the members of `tasks` that create workflows. */
export function workflowsOf(app: App): Workflows {
  const checked = (parts: readonly unknown[], call: string): readonly Piece[] => {
    if (!Array.isArray(parts)) throw new InputError(`${call}() takes an array of tasks; got ${show(parts)}`);
    const at = parts.findIndex((part) => !isPiece(part));
    if (at >= 0) {
      throw new InputError(
        `${call}(): part ${at + 1} is ${show(parts[at])}; expected a task, a task with an input such as resize.with({ width: 100 }), or a workflow`,
      );
    }
    return parts as readonly Piece[];
  };
  const flow = (kind: 'chain' | 'group', parts: readonly unknown[], options: unknown, call: string = kind) =>
    new Flow<never>(app, { kind, parts: checked(parts, call) }, readWorkflowOptions(options, `${call}()`));
  const each = (task: unknown, inputs: readonly unknown[], options: unknown, call: string) => {
    if (!(task instanceof TaskHandle)) throw new InputError(`${call}() takes a task; got ${show(task)}`);
    if (!Array.isArray(inputs)) throw new InputError(`${call}() of ${task.name} takes an array of inputs; got ${show(inputs)}`);
    return flow(
      'group',
      inputs.map((input) => new SignatureOf(task, input === undefined ? null : input, {})),
      options,
      call,
    );
  };
  return {
    chain: (parts, options) => {
      if (Array.isArray(parts) && (parts.length as number) === 0) throw new InputError('chain() takes at least one task');
      return flow('chain', parts, options);
    },
    group: (parts, options) => flow('group', parts, options),
    map: (task, inputs, options) => each(task, inputs, options, 'map'),
    chunks: (task, items, size, options) => {
      if (!Number.isInteger(size) || size < 1) throw new InputError(`chunks(): the size must be a positive integer; got ${show(size)}`);
      if (!Array.isArray(items)) throw new InputError(`chunks() takes an array of items; got ${show(items)}`);
      const slices = Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
      return each(task, slices, options, 'chunks');
    },
    workflow: (build, options) => {
      if (typeof build !== 'function') throw new InputError(`workflow() takes a function (w) => …; got ${show(build)}`);
      return new Flow<never>(app, { kind: 'graph', build }, readWorkflowOptions(options, 'workflow()'));
    },
  };
}

/** True for anything that can be part of a workflow. */
export function isPiece(value: unknown): value is Piece {
  return value instanceof TaskHandle || value instanceof SignatureOf || value instanceof Flow;
}

function readWorkflowOptions(options: unknown, call: string): WorkflowOptions {
  if (options === undefined) return {};
  const read = new OptionReader(`Invalid options for ${call}`);
  const { name, onFailure } = read.object(options, '', ['name', 'onFailure']);
  if (name !== undefined) read.name(name, 'name');
  if (onFailure !== undefined && onFailure !== 'dependents' && onFailure !== 'workflow')
    read.fault('onFailure', "'dependents' or 'workflow'", onFailure);
  read.done();
  return {
    ...(name === undefined ? {} : { name: name as string }),
    ...(onFailure === undefined ? {} : { onFailure: onFailure as OnPartFailure }),
  };
}
