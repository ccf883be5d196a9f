/**
 * The memory store's indexes. Each job is filed under what it waits for, so that the next one is found immediately.
 *
 * A queued job is in one of two places: in `#future`, ordered by due time, or, once a caller's `now` has passed its due time, among the
 * ready jobs of its line. There is one line (a heap) per queue and task, so a paused queue or an unknown task hides only its own jobs. A
 * caller whose clock is behind moves jobs that are not yet due back. Callers do not see this staging.
 */
import { gateOf, type RunningCount, taskOfGate } from '../../core/gate.ts';
import { Heap } from '../../core/heap.ts';
import { comesBefore, isExpired, pruneAt } from '../../core/job.ts';
import type { Attempt, Job } from '../../core/types.ts';
import type { ClaimOptions, PruneOptions } from '../../ports/store.ts';
import { ReadyLine } from './ready-line.ts';

/** A row with its attempts and its positions in the indexes. */
export interface Node {
  job: Job;
  readonly attempts: Attempt[];
  /** Its position in insertion order. */
  readonly n: number;
  /** Changes when the job moves to another queue. */
  line: Line;
  futureAt: number;
  rowAt: number;
  heapAt: number;
  leaseAt: number;
  expiryAt: number;
  finishedPlace: number;
  prunePlace: number;
  blockedPlace: number;
}

/** The ready jobs of one task in one queue. */
export interface Line {
  readonly queue: string;
  readonly task: string;
  readonly ready: ReadyLine<Node>;
}

/** Selects the jobs that a caller may claim. */
export type Served = Pick<ClaimOptions, 'tasks' | 'queues' | 'excludeQueues'>;

const earlier = (a: number, b: number, x: Node, y: Node) => (a === b ? x.job.id < y.job.id : a < b);

/** Finished jobs of one status, oldest first: those without their own retention, and those with one, which are also ordered by its end. */
class Finished {
  readonly plain = new Heap<'finishedPlace', Node>('finishedPlace', byFinish);
  readonly own = new Heap<'finishedPlace', Node>('finishedPlace', byFinish);
  readonly ownByEnd = new Heap<'prunePlace', Node>('prunePlace', (a, b) => {
    const [endA, endB] = [pruneAt(a.job) ?? 0, pruneAt(b.job) ?? 0];
    return endA === endB ? byFinish(a, b) : endA < endB;
  });

  add(node: Node): void {
    if (pruneAt(node.job) === null) this.plain.push(node);
    else {
      this.own.push(node);
      this.ownByEnd.push(node);
    }
  }

  remove(node: Node): void {
    (pruneAt(node.job) === null ? this.plain : this.own).remove(node);
    this.ownByEnd.remove(node);
  }

  /** The next job to prune. */
  next({ finishedBefore, own }: Pick<PruneOptions, 'finishedBefore' | 'own'>): Node | undefined {
    if (own === 'only') {
      const node = this.ownByEnd.peek();
      return node && (pruneAt(node.job) ?? 0) < finishedBefore ? node : undefined;
    }
    const plain = this.plain.peek();
    const kept = own === 'left' ? undefined : this.own.peek();
    const node = plain && kept ? (byFinish(plain, kept) ? plain : kept) : (plain ?? kept);
    return node && (node.job.finishedAt ?? 0) < finishedBefore ? node : undefined;
  }
}

function byFinish(a: Node, b: Node): boolean {
  const [atA, atB] = [a.job.finishedAt ?? 0, b.job.finishedAt ?? 0];
  return atA === atB ? a.n < b.n : atA < atB;
}

export class Indexes {
  readonly #isPaused: (queue: string) => boolean;
  readonly #lines = new Map<string, Line>();
  /** The lines for each array of task names; cleared when a line or a queue changes. */
  #served = new WeakMap<readonly string[], Pick<Served, 'queues' | 'excludeQueues'> & { readonly lines: readonly Line[] }>();
  readonly #future = new Heap<'futureAt', Node>('futureAt', (a, b) => earlier(a.job.dueAt, b.job.dueAt, a, b));
  readonly #leases = new Heap<'leaseAt', Node>('leaseAt', (a, b) => earlier(a.job.leaseUntil ?? 0, b.job.leaseUntil ?? 0, a, b));
  readonly #expiries = new Heap<'expiryAt', Node>('expiryAt', (a, b) => earlier(a.job.expiresAt ?? 0, b.job.expiresAt ?? 0, a, b));
  /** Due jobs of full gates, best first, by gate. */
  readonly #blocked = new Map<string, Heap<'blockedPlace', Node>>();
  readonly finished = { successful: new Finished(), failed: new Finished(), cancelled: new Finished() };
  /**
   * Queued jobs that had expired at some caller's `now`. They rejoin the ready jobs only for a caller whose clock is behind that instant.
   */
  readonly #quarantined = new Set<Node>();
  #quarantinedAt = Number.NEGATIVE_INFINITY;
  #inserted = 0;

  constructor(isPaused: (queue: string) => boolean) {
    this.#isPaused = isPaused;
  }

  /** Creates a node that is not in any index yet. */
  nodeOf(job: Job): Node {
    const places = { futureAt: -1, rowAt: -1, heapAt: -1, leaseAt: -1, expiryAt: -1, finishedPlace: -1, prunePlace: -1, blockedPlace: -1 };
    this.#inserted += 1;
    return { job, attempts: [], n: this.#inserted, line: this.line(job.queue, job.task), ...places };
  }

  /** Called when a queue was paused or resumed. */
  changed(): void {
    this.#served = new WeakMap();
  }

  /** Adds the node to the indexes that its row belongs in. */
  add(node: Node, now: number): void {
    const { job } = node;
    switch (job.status) {
      case 'queued':
        if (job.dueAt <= now) node.line.ready.push(node);
        else this.#future.push(node);
        if (job.expiresAt !== null && job.startedAt === null) this.#expiries.push(node);
        break;
      case 'running':
        this.#leases.push(node);
        break;
      case 'waiting':
        break;
      default:
        this.finished[job.status].add(node);
    }
  }

  remove(node: Node): void {
    this.#future.remove(node);
    node.line.ready.remove(node);
    this.#leases.remove(node);
    this.#expiries.remove(node);
    this.#quarantined.delete(node);
    if (node.blockedPlace >= 0) this.#unblocked(node);
    const before = node.job.status;
    if (before === 'successful' || before === 'failed' || before === 'cancelled') this.finished[before].remove(node);
  }

  /** Moves jobs that have become due to the ready jobs of their lines. */
  stage(now: number): void {
    if (now < this.#quarantinedAt && this.#quarantined.size > 0) {
      for (const node of this.#quarantined) node.line.ready.push(node);
      this.#quarantined.clear();
    }
    for (let node = this.#future.peek(); node && node.job.dueAt <= now; node = this.#future.peek()) {
      this.#future.remove(node);
      node.line.ready.push(node);
    }
  }

  /** Takes a ready job out of its line until its gate has room. */
  block(node: Node): void {
    node.line.ready.remove(node);
    const gate = gateOf(node.job);
    const heap = this.#blocked.get(gate) ?? new Heap('blockedPlace', (a: Node, b: Node) => comesBefore(a.job, b.job));
    this.#blocked.set(gate, heap);
    heap.push(node);
  }

  get hasBlocked(): boolean {
    return this.#blocked.size > 0;
  }

  /** Puts the best blocked jobs of a gate back among the ready ones. */
  unblock(gate: string, count = 1): void {
    const heap = this.#blocked.get(gate);
    for (let i = 0; heap && i < count; i++) {
      const node = heap.peek();
      if (!node) return;
      this.#unblocked(node);
      node.line.ready.push(node);
    }
  }

  /** The gates of these tasks with blocked jobs. */
  blockedGates(tasks: readonly string[]): readonly string[] {
    return this.#blocked.size === 0 ? [] : [...this.#blocked.keys()].filter((gate) => tasks.includes(taskOfGate(gate)));
  }

  /** The keys of a task with due jobs in these lines, blocked or not. */
  *dueKeys(lines: readonly Line[], task: string, now: number): Iterable<string> {
    const served = new Set(lines.filter((line) => line.task === task));
    const waits = ({ line, job }: Node) => served.has(line) && job.dueAt <= now && job.concurrencyKey !== null;
    for (const line of served) for (const node of line.ready.items()) if (waits(node)) yield node.job.concurrencyKey as string;
    for (const [gate, heap] of this.#blocked) {
      const node = taskOfGate(gate) === task ? heap.items.find(waits) : undefined;
      if (node) yield node.job.concurrencyKey as string;
    }
    for (const node of this.#quarantined) if (waits(node)) yield node.job.concurrencyKey as string;
  }

  /** The jobs in the lines of this queue that have been due since `before`, oldest first. */
  aged(lines: readonly Line[], queue: string, before: number, now: number, limit: number): readonly Node[] {
    const found: Node[] = [];
    for (const line of lines) {
      if (line.queue !== queue) continue;
      for (const node of line.ready.items()) if (node.job.dueAt <= before && !isExpired(node.job, now)) found.push(node);
    }
    return found.sort((a, b) => (earlier(a.job.dueAt, b.job.dueAt, a, b) ? -1 : 1)).slice(0, limit);
  }

  /** Counts the running jobs by everything that limits count. */
  running(): Iterable<RunningCount> {
    return this.#leases.items.map(({ job: { queue, task, concurrencyKey } }) => ({ queue, task, concurrencyKey, count: 1 }));
  }

  #unblocked(node: Node): void {
    const gate = gateOf(node.job);
    const heap = this.#blocked.get(gate);
    heap?.remove(node);
    if (heap?.size === 0) this.#blocked.delete(gate);
  }

  /** The line's first job that may be claimed at this instant. It is then at the top of its heap. */
  due(line: Line, now: number): Node | undefined {
    for (;;) {
      const node = line.ready.peek();
      if (!node) return undefined;
      if (node.job.dueAt > now) {
        // Staged by a caller whose clock is ahead.
        line.ready.remove(node);
        this.#future.push(node);
      } else if (isExpired(node.job, now)) {
        // No longer claimable, but still queued. `overdue` finds it.
        line.ready.remove(node);
        this.#quarantined.add(node);
        this.#quarantinedAt = Math.max(this.#quarantinedAt, now);
      } else return node;
    }
  }

  /** The lines that a caller serves. Callers keep passing the same array of task names, so the result is cached for it. */
  linesFor(options: Served): readonly Line[] {
    const kept = this.#served.get(options.tasks);
    if (kept && kept.queues === options.queues && kept.excludeQueues === options.excludeQueues) return kept.lines;
    const lines = [...this.#lines.values()].filter(
      ({ queue, task }) =>
        !this.#isPaused(queue) &&
        (options.queues?.includes(queue) ?? true) &&
        !options.excludeQueues?.includes(queue) &&
        options.tasks.includes(task),
    );
    this.#served.set(options.tasks, { queues: options.queues, excludeQueues: options.excludeQueues, lines });
    return lines;
  }

  line(queue: string, task: string): Line {
    // Names contain no spaces, so the key is unique.
    const key = `${queue} ${task}`;
    let line = this.#lines.get(key);
    if (!line) {
      line = { queue, task, ready: new ReadyLine<Node>((a, b) => comesBefore(a.job, b.job)) };
      this.#lines.set(key, line);
      this.#served = new WeakMap();
    }
    return line;
  }

  /** The next due time among the jobs of these lines that are not yet due; null if there are none. */
  nextFuture(lines: readonly Line[]): number | null {
    const first = this.#future.peek();
    if (!first || lines.includes(first.line)) return first?.job.dueAt ?? null;
    // The first job belongs to a line that the caller does not serve, so search the others.
    const served = new Set(lines);
    let next: number | null = null;
    for (const node of this.#future.items) {
      if (served.has(node.line) && (next === null || node.job.dueAt < next)) next = node.job.dueAt;
    }
    return next;
  }

  /** Called when the lease of a running job has a new end. */
  renewed(node: Node): void {
    this.#leases.moved(node);
  }

  /** The earliest end of a job's own retention. */
  nextPruneAt(): number | undefined {
    const ends = Object.values(this.finished).flatMap(({ ownByEnd }) => ownByEnd.peek() ?? []);
    return ends.length > 0 ? Math.min(...ends.map(({ job }) => pruneAt(job) ?? 0)) : undefined;
  }

  /** Jobs whose lease has ended or that have expired, earliest first, up to `limit`. */
  overdue(now: number, limit: number): readonly Node[] {
    // Nodes are removed and added back because a heap is ordered only at its top. There are few of them.
    const found: Node[] = [];
    for (let node = this.nextOverdue(); node && found.length < limit; node = this.nextOverdue()) {
      if (overdueAt(node) > now) break;
      this.#leases.remove(node);
      this.#expiries.remove(node);
      found.push(node);
    }
    for (const node of found) (node.job.status === 'running' ? this.#leases : this.#expiries).push(node as never);
    return found;
  }

  /** The next job whose lease ends or that expires. */
  nextOverdue(): Node | undefined {
    const lease = this.#leases.peek();
    const expiry = this.#expiries.peek();
    if (!lease || !expiry) return lease ?? expiry;
    return earlier(overdueAt(lease), overdueAt(expiry), lease, expiry) ? lease : expiry;
  }
}

/** When the janitor must handle the job. */
export function overdueAt(node: Node): number {
  return (node.job.status === 'running' ? node.job.leaseUntil : node.job.expiresAt) ?? Number.POSITIVE_INFINITY;
}
