/** Creates the jobs of a flow and inserts them, all or none. */
import type { App } from '../app.ts';
import { InputError, StoreError, WorkflowError } from '../core/errors.ts';
import { newJob } from '../core/job.ts';
import type { Job } from '../core/types.ts';
import { compensateTask, type Edge, type OnPartFailure, type Part } from '../core/workflow.ts';
import type { Host } from '../engine/host.ts';
import { enqueuing } from '../engine/scope.ts';
import { OptionReader } from '../options/reader.ts';
import { resultOf, type TaskResult } from '../result.ts';
import type { EnqueueOptions } from '../task.ts';
import type { Flow } from './flow.ts';
import { type Graph, graphOf, type Node } from './graph.ts';
import { WorkflowResult } from './result.ts';

export function enqueueFlow<Output>(
  flow: Flow<Output>,
  options: Pick<EnqueueOptions, 'transaction'> | undefined,
): WorkflowResult<Output> | Promise<WorkflowResult<Output>> {
  const { app } = flow;
  const transaction = (options as { transaction?: unknown } | undefined)?.transaction;
  const make = () => {
    if (options !== undefined) OptionReader.given(options, 'enqueue() of a workflow', ['transaction']);
    return insert(flow, transaction);
  };
  if (transaction !== undefined) return make();
  return (async () => {
    const turn = app.binding.turn?.();
    if (turn !== undefined) await turn;
    return make();
  })();
}

function insert<Output>(flow: Flow<Output>, transaction: unknown): WorkflowResult<Output> | Promise<WorkflowResult<Output>> {
  const { app, options } = flow;
  const graph = graphOf(flow);
  const alias = aliasOf(graph);
  const now = app.binding.host.clock.now();
  const id = app.binding.host.newId(now);
  const name = options.name ?? nameOf(flow);
  if (graph.nodes.length === 0) return new WorkflowResult<Output>(app, alias, id, name, [], graph.output);
  const backend = app.backend(alias);
  if (transaction !== undefined && backend.open() instanceof Promise) {
    throw new StoreError('the store is not open yet; call and await tasks.open() before enqueueing in a transaction', { kind: 'closed' });
  }
  const made = jobsOf(app, graph, { workflow: id, name, onFailure: options.onFailure ?? 'dependents', now }, transaction !== undefined);
  const store = ({ jobs, edges }: Made): WorkflowResult<Output> | Promise<WorkflowResult<Output>> => {
    const records = backend.enqueue(jobs, { now, transaction, edges });
    const result = (inserted: readonly { readonly job: Job }[]) => {
      const results = inserted.map(({ job }) => resultOf(app, alias, { job, attempts: [] }));
      return new WorkflowResult<Output>(app, alias, id, name, results);
    };
    return records instanceof Promise ? records.then(result) : result(records);
  };
  return made instanceof Promise ? made.then(store) : store(made);
}

interface Made {
  readonly jobs: readonly Job[];
  readonly edges: readonly Edge[];
}

/** What the jobs of a workflow have in common. */
export interface Common {
  readonly workflow: string;
  readonly name: string;
  readonly onFailure: OnPartFailure;
  readonly now: number;
  /** Returns the id of a part that is added to a running workflow. */
  readonly idOf?: (node: Node) => string;
}

/** Creates the jobs of a graph and the edges between them. */
export function jobsOf(app: App, { nodes, output }: Graph, common: Common, inTransaction: boolean): Made | Promise<Made> {
  const { workflow, name, onFailure, now, idOf } = common;
  const { host } = app.binding;
  const ids = new Map(nodes.map((node) => [node, idOf?.(node) ?? host.newId(now)]));
  const idFor = (node: Node) => ids.get(node) as string;
  const undone = nodes.filter(({ options }) => options.compensate !== undefined);
  if (undone.length > 0 && idOf) throw new WorkflowError('compensate is an option of parts that are enqueued with the workflow');
  const jobs = nodes.map((node, place) => {
    const part: Part = {
      key: node.key,
      of: name,
      place: idOf ? null : place,
      fill: node.fill,
      delayMs: null,
      expiresMs: null,
      allowFailure: node.options.allowFailure ?? false,
      always: node.options.always ?? false,
      onFailure,
      compensate: node.options.compensate?.name ?? null,
      ...(place === 0 && !idOf ? { output } : {}),
    };
    return node.handle.partOf(node.input, { id: idFor(node), workflow, part, isWaiting: node.parents.length > 0, now }, inTransaction);
  });
  const edges = nodes.flatMap((node) => node.parents.map((parent) => ({ parent: idFor(parent), child: idFor(node) })));
  const whole = (rows: readonly Job[]): Made => {
    if (undone.length === 0) return { jobs: rows, edges };
    const end = compensation(rows, common, host);
    return { jobs: [...rows, end], edges: [...edges, ...rows.map(({ id: parent }) => ({ parent, child: end.id }))] };
  };
  if (!jobs.some((job) => job instanceof Promise)) return whole(jobs as Job[]);
  return Promise.all(jobs).then(whole);
}

/**
 * The job that runs when all others have ended, and undoes what was done if one of them failed. It is kept as long as any of them can be
 * retried, because it records what was undone.
 */
function compensation(jobs: readonly Job[], { workflow, name, now }: Common, host: Host): Job {
  const [first] = jobs as [Job];
  const forever = (ms: number | null) => ms ?? Number.POSITIVE_INFINITY;
  const keepMs = jobs.flatMap(({ overrides }) =>
    (['failedMs', 'cancelledMs'] as const).map((key) => {
      const own = overrides?.retention?.[key];
      return own === undefined ? host.retention[key] : forever(own);
    }),
  );
  const successfulMs = jobs.length > 0 ? keepMs.reduce((a, b) => Math.max(a, b), host.retention.successfulMs) : 0;
  const part: Part = {
    key: 'compensate',
    of: name,
    place: null,
    fill: 'none',
    delayMs: null,
    expiresMs: null,
    allowFailure: false,
    always: true,
    onFailure: 'dependents',
    compensate: null,
  };
  const request = {
    task: compensateTask,
    queue: first.queue,
    priority: first.priority,
    input: null,
    runAfter: null,
    expiresAt: null,
    maxAttempts: 20,
    tags: [],
    metadata: {},
    schedule: null,
    scheduledAt: null,
    overrides: { retention: { successfulMs: successfulMs === Number.POSITIVE_INFINITY ? null : successfulMs } },
    enqueuedBy: enqueuing(),
  };
  return newJob({ ...request, workflow, part, isWaiting: true }, host.newId(now), now);
}

function aliasOf({ nodes }: Graph): string {
  const [first, other] = [...new Set(nodes.map(({ handle }) => handle.backend))];
  if (other !== undefined)
    throw new WorkflowError(`parts of the workflow are on the backends ${first} and ${other}; all parts must be on the same one`);
  return first ?? 'default';
}

function nameOf({ shape }: Flow): string {
  return shape.kind === 'graph' ? 'workflow' : shape.kind;
}

/** Adds jobs to a workflow while one of its jobs runs. Jobs added by an earlier attempt exist already. */
export async function addToWorkflow(
  app: App,
  from: TaskResult,
  graph: Graph,
  common: Common,
  before: readonly string[],
): Promise<TaskResult[]> {
  const alias = from.backend;
  if (graph.nodes.length > 0 && aliasOf(graph) !== alias)
    throw new WorkflowError(`the workflow is on the backend ${alias}, but the parts to add are on ${aliasOf(graph)}`);
  const { jobs, edges } = await jobsOf(app, graph, common, false);
  if (jobs.length === 0) return [];
  const idsOfExits = graph.exits.map((node) => jobs[graph.nodes.indexOf(node)]?.id as string);
  const all = [...edges, ...before.flatMap((child) => idsOfExits.map((parent) => ({ parent, child })))];
  const records = await app.backend(alias).enqueue(jobs, { now: common.now, once: true, edges: all });
  for (const { job } of records)
    if (job.workflow !== common.workflow) throw new InputError(`the id ${job.id} belongs to a job that is not part of the workflow`);
  return records.map((record) => resultOf(app, alias, record));
}
