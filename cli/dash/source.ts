/**
 * Reads the system for the dashboard: only what the current view shows, and only through the public API. One read runs at a time. Its cost
 * does not grow with the number of jobs, except for text searches, which are bounded.
 */
import type { JobSelection, ScheduleInfo, Status, TaskResult, Tasks, WorkerInfo } from 'escapement';
import { given } from '../arguments.ts';
import { changeText, clockChange } from '../clocks.ts';
import { isLive, serves, stateOf, unknownTasks } from '../fleet.ts';
import { clean, plural } from '../format.ts';
import { mailOf } from '../mail.ts';
import type { StoreOperations } from '../operate.ts';
import { scheduleState, whyPaused, zoneOf } from '../schedules.ts';
import { wallTime } from '../time.ts';
import { treeOf } from '../tree.ts';
import { type Feed, loggedText, minutesKept } from './feed.ts';
import { holdsText, selectionOf } from './filter.ts';
import { finishedStatuses, jobDetail, jobItem, mailDetail, mailItem } from './items.ts';
import { eventsOfJobs } from './job-events.ts';
import {
  type Coming,
  type Data,
  type Failure,
  type Filter,
  type JobItem,
  pageSize,
  type QueueItem,
  type ScheduleItem,
  type Sort,
  type State,
  type WorkerItem,
} from './state.ts';

/** What to read. It depends on the state alone: the same state makes the same request. */
export interface Request {
  readonly view: State['view'];
  readonly jobId: string | null;
  readonly filter: Filter;
  readonly sort: Sort;
  readonly after: string | null;
  readonly limit: number;
  /** The text to find in events. */
  readonly eventText: string;
}

export function requestOf(state: State): Request {
  const { view, jobId, filter, sort, pages, eventText } = state;
  return { view, jobId, filter, sort, after: pages.at(-1) ?? null, limit: pageSize(state), eventText: view === 'events' ? eventText : '' };
}

export interface Knowledge {
  readonly now: () => number;
  readonly feed: Feed;
  /** True if this process receives events; otherwise the Events view is reconstructed from jobs. */
  readonly hasEvents: boolean;
  /** True if other processes run the same jobs; otherwise all workers are in this process, and their heartbeats do not matter. */
  readonly shared: boolean;
  /** The store whose jobs are shown. Default: that of the default backend. */
  readonly store?: StoreOperations | undefined;
  /** Paths in stacks are shown relative to this folder. */
  readonly cwd: string;
}

/** True if there may be a job of this status. A store may have to scan many jobs to find none. */
type Has = (status: Status) => boolean;

function totals(queues: readonly QueueItem[]): Has {
  return (status) => queues.some(({ counts }) => counts[status] > 0);
}

const ofView: Readonly<Record<Request['view'], (source: Source, request: Request, has: Has) => Promise<Partial<Data>>>> = {
  overview: (source, _request, has) => source.overview(has),
  jobs: (source, request) => source.jobs(request),
  job: (source, request) => source.job(request),
  retries: (source, _request, has) => source.retries(has),
  schedules: (source) => source.schedules(),
  workers: (source, _request, has) => source.workers(has),
  events: (source, request, has) => source.events(request, has),
  outbox: (source) => source.outbox(),
  mail: (source, request) => source.mail(request),
};

const unknownEveryMs = 15_000;
const maxSearched = 5_000;
const maxSorted = 1_000;
const maxRetries = 1_000;
const maxMails = 200;
const maxInTree = 60;
/** The number of failures searched for equal errors, among failed and among retrying jobs. */
const maxFailures = 200;
/** The number of jobs whose events are shown, and the number whose events are searched. */
const jobsForEvents = 200;
const maxJobsForEvents = 1_000;
/** The events that put a job into the status of the same name. */
const endings = ['successful', 'retrying', 'failed', 'cancelled'] as const satisfies readonly Status[];

export class Source {
  readonly #tasks: Tasks;
  readonly #store: StoreOperations;
  readonly #known: Knowledge;
  /** The number of finished jobs of each queue at the last read. */
  readonly #ended = new Map<string, number>();
  readonly #waits = new Map<string, readonly number[] | null>();
  #unknown: Data['unknown'] = [];
  #askedUnknownAt = Number.NEGATIVE_INFINITY;

  constructor(tasks: Tasks, known: Knowledge) {
    this.#tasks = tasks;
    this.#store = known.store ?? tasks;
    this.#known = known;
  }

  async read(request: Request): Promise<Partial<Data>> {
    // For every view: the header shows the counts and the workers.
    const infos = await this.#store.workers.list();
    const queues = await this.#queues(infos);
    const tasks = this.#tasks.names.map(clean);
    return { queues, workers: this.#workerItems(infos, []), tasks, ...(await ofView[request.view](this, request, totals(queues))) };
  }

  async overview(has: Has): Promise<Partial<Data>> {
    const [failed, retrying, scheduled] = await Promise.all([
      this.#list(has, { status: 'failed', limit: maxFailures, order: 'changed' }),
      this.#list(has, { status: 'retrying', limit: maxFailures, order: 'changed' }),
      this.#list(has, { status: 'scheduled', limit: 50 }),
    ]);
    const lastAt = (job: JobItem) => job.finishedAt ?? job.lastAttemptedAt ?? 0;
    const failures = groupFailures([...failed, ...retrying].sort((a, b) => lastAt(b) - lastAt(a))).slice(0, 30);
    const full = (await this.#store.limits())
      .filter(({ key, running, concurrency }) => key !== null && concurrency !== null && running >= concurrency)
      .map(({ task, key, running, concurrency }) => clean(`${task} ${key} ${running}/${concurrency}`));
    return { full, failures, coming: await this.#coming([...retrying, ...scheduled]), unknown: await this.#unknownNow() };
  }

  /** Read rarely, because it scans thousands of jobs. */
  async #unknownNow(): Promise<Data['unknown']> {
    const now = this.#known.now();
    if (!this.#known.shared || Math.abs(now - this.#askedUnknownAt) < unknownEveryMs) return this.#unknown;
    this.#askedUnknownAt = now;
    const found = await unknownTasks(this.#store, await this.#store.queues.list(), await this.#store.workers.list(), now);
    this.#unknown = found.map(({ task, jobs }) => ({ task: clean(task), jobs }));
    return this.#unknown;
  }

  async #coming(jobs: readonly JobItem[]): Promise<Coming[]> {
    const ofJobs = jobs.map((job): Coming => {
      const status = job.status === 'retrying' ? 'retrying' : 'scheduled';
      return { at: job.dueAt, status, name: job.task, note: status === 'retrying' ? `attempt ${job.attempts + 1}` : '', job: job.id };
    });
    const ofSchedules = (await this.#tasks.schedules.list())
      .filter(({ nextAt }) => nextAt !== null)
      .map(
        ({ name, nextAt }): Coming => ({ at: nextAt?.getTime() ?? 0, status: 'scheduled', name: clean(name), note: 'schedule', job: null }),
      );
    return [...ofJobs, ...ofSchedules].sort((a, b) => a.at - b.at).slice(0, 30);
  }

  async jobs({ filter, sort, after, limit }: Request): Promise<Partial<Data>> {
    const { text } = filter;
    const selection = selectionOf(filter);
    if (text === '' && sort === 'newest') {
      const page = await this.#store.jobs.list({ ...selection, limit, ...(after === null ? {} : { after }) });
      return { jobs: { items: page.items.map(this.#item), cursor: page.cursor ?? null, note: null } };
    }
    if (sort === 'newest') return { jobs: await this.#search(selection, text, limit, after, maxSearched) };
    // Other sort orders cover only the newest matching jobs: the store orders jobs by id.
    const { items, cursor } = await this.#search(selection, text, maxSorted, null, maxSearched);
    const note = cursor === null ? null : `of the ${plural(items.length, 'newest matching job')}`;
    return { jobs: { items: items.sort(orders[sort]), cursor: null, note } };
  }

  /** The first matching jobs. The cursor leads to further matches, or to jobs that were not searched. */
  async #search(selection: JobSelection, text: string, wanted: number, after: string | null, maxJobs: number) {
    const found: TaskResult[] = [];
    let examined = 0;
    let cursor = after ?? undefined;
    do {
      const page = await this.#store.jobs.list({ ...selection, limit: 1_000, ...given({ after: cursor }) });
      examined += page.items.length;
      for (const job of page.items) if (holdsText(job, text)) found.push(job);
      cursor = page.cursor;
    } while (cursor !== undefined && found.length <= wanted && examined < maxJobs);
    const items = found.slice(0, wanted).map(this.#item);
    if (found.length > wanted) return { items, cursor: items.at(-1)?.id ?? null, note: null };
    return { items, cursor: cursor ?? null, note: cursor === undefined ? null : `${plural(examined, 'job')} searched` };
  }

  async job({ jobId }: Request): Promise<Partial<Data>> {
    if (jobId === null) return { job: null };
    try {
      const job = await this.#tasks.getResult(jobId);
      const { feed, cwd, hasEvents } = this.#known;
      const [steps, tree, logs] = await Promise.all([job.steps(), treeOf(this.#tasks, job, maxInTree), hasEvents ? [] : job.logs()]);
      const log = hasEvents
        ? feed.log(jobId)
        : logs.map((entry) => ({ at: entry.at.getTime(), level: entry.level, text: loggedText(entry) }));
      return { job: jobDetail(job, { log, waitsMs: this.#waitsOf(job), steps, tree, cwd }) };
    } catch (error) {
      if ((error as { code?: unknown }).code === 'ESCAPEMENT_RESULT_NOT_FOUND') return { job: 'gone' };
      throw error;
    }
  }

  async retries(has: Has): Promise<Partial<Data>> {
    const items = await this.#list(has, { status: 'retrying', limit: maxRetries });
    return { retries: items.sort((a, b) => a.dueAt - b.dueAt) };
  }

  async workers(has: Has): Promise<Partial<Data>> {
    const running = await this.#list(has, { status: 'running', limit: 500 });
    return { workers: this.#workerItems(await this.#store.workers.list(), running) };
  }

  async events({ eventText }: Request, has: Has): Promise<Partial<Data>> {
    const { feed, hasEvents } = this.#known;
    if (hasEvents) return { events: feed.events };
    const limit = eventText.trim() === '' ? jobsForEvents : maxJobsForEvents;
    const { items } = await this.#store.jobs.list({ order: 'changed', limit });
    const latest = eventsOfJobs(items, items.length < limit);
    // Events of the wanted kind may be much older than those.
    const kinds = endings.filter((status) => eventText.toLowerCase().split(/\s+/).includes(status) && has(status));
    const earlier = await Promise.all(kinds.map((status) => this.#store.jobs.list({ status, order: 'changed', limit: jobsForEvents })));
    const known = new Set(latest.map(({ key }) => key));
    const more = eventsOfJobs([...new Map(earlier.flatMap((page) => page.items).map((job) => [job.id, job])).values()], true);
    return { events: [...latest, ...more.filter(({ key, type }) => !known.has(key) && kinds.some((kind) => kind === type))] };
  }

  async outbox(): Promise<Partial<Data>> {
    const { outbox } = mailOf(this.#tasks);
    return outbox ? { mails: (await outbox.list({ limit: maxMails })).map(mailItem), hasMail: true } : { mails: [], hasMail: false };
  }

  async mail({ jobId }: Request): Promise<Partial<Data>> {
    const { outbox } = mailOf(this.#tasks);
    if (jobId === null || !outbox) return { mail: null };
    try {
      return { mail: mailDetail(await outbox.get(jobId)) };
    } catch (error) {
      if ((error as { code?: unknown }).code === 'ESCAPEMENT_RESULT_NOT_FOUND') return { mail: 'gone' };
      throw error;
    }
  }

  async schedules(): Promise<Partial<Data>> {
    const infos = await this.#tasks.schedules.list();
    return { schedules: await Promise.all(infos.map((info) => this.#schedule(info))) };
  }

  async #schedule(info: ScheduleInfo): Promise<ScheduleItem> {
    const now = this.#known.now();
    const { name, task, queue, words, runs, paused } = info;
    const zone = zoneOf(info);
    const instants = (await this.#tasks.schedules.next(name, 100)).map((at) => at.getTime());
    const next = instants.filter((at) => !paused || at > now);
    const { items } = await this.#store.jobs.list({ schedule: name, limit: 50 });
    const last = items.find((job) => finishedStatuses.has(job.status)) ?? items[0];
    const change = info.timezone === null || next[0] === undefined ? undefined : clockChange(next[0], info.timezone);
    return {
      name: clean(name),
      task: clean(task),
      queue: clean(queue),
      words: clean(words),
      zone: clean(info.timezone ?? 'UTC'),
      state: scheduleState(info),
      why: whyPaused(info)[0] ?? null,
      runs,
      nextAt: info.nextAt?.getTime() ?? null,
      next: next.slice(0, 5),
      last: last ? lastOf(last) : null,
      hours: hoursOf(items, paused || !info.enabled ? [] : instants, zone, now),
      hour: hourOf(now, zone),
      clocks: change ? changeText(change) : null,
    };
  }

  readonly #item = (job: TaskResult): JobItem => jobItem(job, this.#waitsOf(job));

  /** Null if its task is defined elsewhere, or if a function of the application computes the delays. */
  #waitsOf({ task }: TaskResult): readonly number[] | null {
    let waitsMs = this.#waits.get(task);
    if (waitsMs === undefined) {
      waitsMs = this.#tasks.names.includes(task) ? this.#tasks.describe(task).waitsMs : null;
      this.#waits.set(task, waitsMs);
    }
    return waitsMs;
  }

  async #list(has: Has, selection: { readonly status: Status; readonly limit: number; readonly order?: 'changed' }): Promise<JobItem[]> {
    return !has(selection.status) ? [] : (await this.#store.jobs.list(selection)).items.map(this.#item);
  }

  async #queues(infos: readonly WorkerInfo[]): Promise<QueueItem[]> {
    const { now, feed, hasEvents, shared } = this.#known;
    const live = infos.filter((worker) => (shared ? isLive(worker, now()) : worker.state !== 'stopped'));
    const limits = await this.#store.limits();
    const stats = (await this.#store.queues.list()).sort((a, b) => (a.name < b.name ? -1 : 1));
    return stats.map(({ name, paused, counts, oldestReadyAt }): QueueItem => {
      if (!hasEvents) this.#count(name, counts.successful + counts.failed + counts.cancelled);
      const serving = live.filter((worker) => serves(worker, name));
      const queueLimit = limits.find(({ queue }) => queue === name)?.concurrency ?? Number.POSITIVE_INFINITY;
      const slots =
        serving.length === 0
          ? null
          : Math.min(
              queueLimit,
              serving.reduce((sum, { concurrency }) => sum + concurrency, 0),
            );
      const [minutes, perMinute] = [feed.minutes(name, now()).slice(-minutesKept), feed.perMinute(name, now())];
      return { name: clean(name), paused, counts, slots, oldestReadyAt, minutes, perMinute };
    });
  }

  /** The number of jobs that finished since the last read, without those that were pruned in between. */
  #count(queue: string, ended: number): void {
    const before = this.#ended.get(queue);
    this.#ended.set(queue, ended);
    if (before !== undefined) this.#known.feed.ended(queue, this.#known.now(), ended - before);
  }

  #workerItems(infos: readonly WorkerInfo[], running: readonly JobItem[]): WorkerItem[] {
    const { now, shared } = this.#known;
    const items = infos.map(
      (info): WorkerItem => ({
        id: clean(info.id),
        host: clean(info.host),
        pid: info.pid,
        version: clean(info.version),
        state: shared ? stateOf(info, now()) : info.state,
        queues: queuesText(info),
        concurrency: info.concurrency,
        running: info.running,
        startedAt: info.startedAt.getTime(),
        heartbeatAt: shared ? info.heartbeatAt.getTime() : null,
        jobs: running
          .filter(({ worker }) => worker === clean(info.id))
          .map(({ id, task, lastAttemptedAt }) => ({ id, task, since: lastAttemptedAt })),
      }),
    );
    // This process knows its own attempts better than the last heartbeat does.
    const known = shared || running.length === 0 ? items : items.map((item) => ({ ...item, running: item.jobs.length }));
    // Stopped workers come last.
    return known.sort((a, b) => Number(a.state === 'stopped') - Number(b.state === 'stopped'));
  }
}

const orders: Readonly<Record<Sort, (a: JobItem, b: JobItem) => number>> = {
  newest: () => 0,
  due: (a, b) => a.dueAt - b.dueAt,
  priority: (a, b) => b.priority - a.priority,
  attempts: (a, b) => b.attempts - a.attempts,
  task: (a, b) => (a.task < b.task ? -1 : a.task > b.task ? 1 : 0),
};

/** Groups equal failures of a task, each with its latest job. */
function groupFailures(jobs: readonly JobItem[]): Failure[] {
  const found = new Map<string, Failure>();
  for (const job of jobs) {
    const key = JSON.stringify([job.task, job.error ?? job.reason]);
    const before = found.get(key);
    found.set(key, { ...(before ?? job), times: (before?.times ?? 0) + 1 });
  }
  return [...found.values()];
}

function queuesText({ queues, exclude }: WorkerInfo): string {
  if (queues) return clean(queues.join(', '));
  return exclude && exclude.length > 0 ? clean(`all but ${exclude.join(', ')}`) : 'all queues';
}

function lastOf(job: TaskResult): ScheduleItem['last'] {
  const at = job.finishedAt ?? job.lastAttemptedAt ?? job.enqueuedAt;
  const took = job.finishedAt && job.lastAttemptedAt ? job.finishedAt.getTime() - job.lastAttemptedAt.getTime() : null;
  return { status: job.status, at: at.getTime(), tookMs: took };
}

function hourOf(at: number, zone: string): number {
  return Number(wallTime(at, zone).time.slice(0, 2));
}

/** The hours of the local day: the status of each hour's job, or `coming`. */
function hoursOf(jobs: readonly TaskResult[], coming: readonly number[], zone: string, now: number): ScheduleItem['hours'] {
  const hours: ScheduleItem['hours'][number][] = Array.from({ length: 24 }, () => null);
  const { date } = wallTime(now, zone);
  for (const at of coming) {
    if (wallTime(at, zone).date === date) hours[hourOf(at, zone)] = 'coming';
    else if (at > now) break;
  }
  // There are more occurrences than one request returns: assume that they continue for the rest of the day.
  const last = coming.at(-1);
  if (coming.length === 100 && last !== undefined && wallTime(last, zone).date === date) hours.fill('coming', hourOf(last, zone));
  for (const job of jobs.toReversed()) {
    const at = (job.scheduledAt ?? job.enqueuedAt).getTime();
    const hour = hourOf(at, zone);
    // A later success in the same hour does not hide a failure.
    if (wallTime(at, zone).date === date && hours[hour] !== 'failed') hours[hour] = job.status;
  }
  return hours;
}
