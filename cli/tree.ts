/** Shows which job enqueued which: reads related jobs, starting with the first, and draws them as a tree. */
import type { Status, TaskResult, Tasks } from 'escapement';
import { isUsualPart, type TreeLine, treeLines } from '../src/core/tree.ts';
import { clean } from './format.ts';

const maxJobs = 500;
const maxAncestors = 100;

/** The jobs of a tree, in enqueue order. */
export interface JobTree {
  readonly jobs: readonly TaskResult[];
  /** True if there are more. */
  readonly isCut: boolean;
}

/**
 * The tree that contains a job: the job that started it, and every job that it and its workflows led to.
 * @param limit the approximate number of jobs to read, because each takes a separate read
 */
export async function treeOf(tasks: Tasks, job: TaskResult, limit = maxJobs): Promise<JobTree> {
  const { jobs: operations } = tasks.backend(job.backend);
  const found = new Map<string, TaskResult>([[job.id, job]]);
  const workflows = new Set<string>();
  const expanded = new Set<string>();
  let isCut = false;
  const add = async (selection: { workflow: string } | { enqueuedBy: string }) => {
    const { items, cursor } = await operations.list({ ...selection, limit });
    isCut ||= cursor !== undefined;
    for (const one of items) if (!found.has(one.id)) found.set(one.id, one);
  };
  for (let top: TaskResult | undefined = job, i = 0; top && i < maxAncestors; i++) {
    const above: string | null = top.enqueuedBy;
    const [parent]: TaskResult[] = above === null || found.has(above) ? [] : (await operations.list({ ids: [above] })).items;
    if (parent) found.set(parent.id, parent);
    top = parent;
  }
  for (const one of found.values()) {
    if (found.size > limit) {
      isCut = true;
      break;
    }
    if (one.workflow !== null && !workflows.has(one.workflow)) {
      workflows.add(one.workflow);
      await add({ workflow: one.workflow });
    }
    if (!expanded.has(one.id)) {
      expanded.add(one.id);
      await add({ enqueuedBy: one.id });
    }
  }
  const jobs = [...found.values()].sort((a, b) => a.enqueuedAt.getTime() - b.enqueuedAt.getTime() || (a.id < b.id ? -1 : 1));
  return { jobs: jobs.slice(0, limit), isCut };
}

/** A line of the tree, and the status of its job. */
export interface JobTreeLine extends TreeLine {
  readonly status: Status | null;
}

export function treeLinesOf({ jobs }: JobTree): JobTreeLine[] {
  const items = jobs.map((job) => ({ ...itemOf(job), status: job.status, name: job.workflowName }));
  const byId = new Map(items.map((item) => [item.id, item]));
  const title = (parts: readonly (typeof items)[number][]) => {
    const ended = parts.filter(({ status }) => status === 'successful' || status === 'failed' || status === 'cancelled').length;
    return `workflow ${clean(parts[0]?.name ?? '')}, ${ended} of ${parts.length} ended`;
  };
  return treeLines(items, title).map((line) => ({ ...line, status: byId.get(line.id ?? '')?.status ?? null }));
}

function itemOf({ id, task, part, enqueuedBy, workflow }: TaskResult) {
  const text = part === null || isUsualPart(part, task) ? clean(task) : `${clean(task)} (${clean(part)})`;
  return { id, text, enqueuedBy, workflow };
}
