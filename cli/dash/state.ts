/**
 * Everything that the dashboard knows, as plain data: what was read of the system, and where the user is in it. `reduce` is the only place
 * where it changes; views only read it. Instants are epoch milliseconds.
 */
import type { Status } from 'escapement';
import type { MailState } from '../mail.ts';

export const viewNames = ['overview', 'jobs', 'retries', 'schedules', 'workers', 'events', 'outbox'] as const;
/** What has a number in the row of tabs. */
export type TabName = (typeof viewNames)[number];
export type ViewName = TabName | 'job' | 'mail';

export interface QueueItem {
  readonly name: string;
  readonly paused: boolean;
  readonly counts: Readonly<Record<Status, number>>;
  /** Attempts that live workers serving it may run at a time; null: none serves it. */
  readonly slots: number | null;
  readonly oldestReadyAt: number | null;
  /** Jobs that ended in each of the last thirty minutes, the present one last. */
  readonly minutes: readonly number[];
  /** Jobs that ended in the last 60 s. */
  readonly perMinute: number;
}

export interface JobItem {
  readonly id: string;
  readonly task: string;
  readonly status: Status;
  readonly queue: string;
  readonly priority: number;
  readonly attempts: number;
  readonly maxAttempts: number;
  readonly tags: readonly string[];
  readonly schedule: string | null;
  readonly enqueuedAt: number;
  readonly dueAt: number;
  readonly startedAt: number | null;
  readonly lastAttemptedAt: number | null;
  readonly finishedAt: number | null;
  readonly reason: string | null;
  /** The last failure: `GatewayError: 503`. */
  readonly error: string | null;
  readonly progress: string | null;
  /** Who has attempted it last. */
  readonly worker: string | null;
  /** The waits between the attempts that are left, without jitter; null: the policy is not known here. */
  readonly waits: readonly number[] | null;
}

/** The latest of the jobs that failed alike, and how many did. */
export interface Failure extends JobItem {
  readonly times: number;
}

/** One attempt. */
export interface Try {
  readonly attempt: number;
  readonly worker: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly outcome: string;
  readonly error: string | null;
  /** The places of its stack; those of the user's own files first. */
  readonly frames: readonly string[];
}

export interface JobDetail extends JobItem {
  /** The last failure, line by line; empty: it has not failed. */
  readonly fault: readonly string[];
  /** As indented JSON. */
  readonly input: readonly string[];
  readonly returned: readonly string[] | null;
  readonly tries: readonly Try[];
  readonly log: readonly { readonly at: number; readonly level: string; readonly text: string }[];
}

export interface ScheduleItem {
  readonly name: string;
  readonly task: string;
  readonly queue: string;
  readonly words: string;
  readonly zone: string;
  readonly state: 'active' | 'paused' | 'disabled' | 'held' | 'ended';
  readonly why: string | null;
  readonly runs: number;
  readonly nextAt: number | null;
  readonly next: readonly number[];
  readonly last: { readonly status: Status; readonly at: number; readonly tookMs: number | null } | null;
  /** The local day, hour by hour: how its job ended, `coming`, or nothing. */
  readonly hours: readonly (Status | 'coming' | null)[];
  /** The local hour that it is. */
  readonly hour: number;
  /** What the clocks do on the day of the next occurrence. */
  readonly clocks: string | null;
}

export interface WorkerItem {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly state: string;
  readonly queues: string;
  readonly concurrency: number;
  readonly running: number;
  readonly startedAt: number;
  /** Null: one of this process, which is not heard of from afar. */
  readonly heartbeatAt: number | null;
  readonly jobs: readonly { readonly id: string; readonly task: string; readonly since: number | null }[];
}

export interface EventItem {
  readonly seq: number;
  /** What tells it from others, if not its number: where events are read again at every look, numbers change. */
  readonly key?: string;
  readonly at: number;
  readonly type: string;
  readonly task: string;
  /** The job's id, or nothing. */
  readonly job: string;
  readonly worker: string;
  readonly text: string;
}

/** A mail of the outbox. */
export interface MailItem {
  readonly job: string;
  readonly task: string;
  readonly state: MailState;
  readonly at: number;
  readonly to: string;
  readonly subject: string;
  readonly attempts: number;
  /** The last error, or why it is held. */
  readonly note: string;
}

export interface MailDetail extends MailItem {
  readonly from: string;
  readonly messageId: string;
  readonly accepted: readonly string[];
  /** Addresses that got nothing, with the reason. */
  readonly refused: readonly string[];
  readonly attachments: readonly string[];
  /** Null: they are not kept of this mail. */
  readonly headers: readonly string[] | null;
  readonly text: readonly string[] | null;
}

/** What comes next, on the overview. */
export interface Coming {
  readonly at: number;
  readonly status: 'retrying' | 'scheduled';
  readonly name: string;
  readonly note: string;
  /** The job, if there is one already. */
  readonly job: string | null;
}

/** What was read of the system. What the present view does not show is not read, and stays as it was. */
export interface Data {
  readonly queues: readonly QueueItem[];
  /** Tasks of ready jobs that no live worker knows. */
  readonly unknown: readonly { readonly task: string; readonly jobs: number }[];
  readonly coming: readonly Coming[];
  readonly failures: readonly Failure[];
  readonly jobs: { readonly items: readonly JobItem[]; readonly cursor: string | null; readonly note: string | null };
  /** Null: not read yet. */
  readonly job: JobDetail | 'gone' | null;
  readonly retries: readonly JobItem[];
  readonly schedules: readonly ScheduleItem[];
  readonly workers: readonly WorkerItem[];
  readonly events: readonly EventItem[];
  readonly tasks: readonly string[];
  readonly mails: readonly MailItem[];
  /** False: the application defines no mail. */
  readonly hasMail: boolean;
  /** Null: not read yet. */
  readonly mail: MailDetail | 'gone' | null;
}

/** Which jobs the Jobs view shows; `text` is looked for in ids, tasks, errors and inputs. */
export interface Filter {
  readonly status: Status | null;
  readonly queue: string | null;
  readonly task: string | null;
  readonly tag: string | null;
  readonly schedule: string | null;
  readonly text: string;
}

export const sorts = ['newest', 'due', 'priority', 'attempts', 'task'] as const;
export type Sort = (typeof sorts)[number];

export type PromptKind = 'filter' | 'task' | 'input' | 'goto' | 'rewind' | 'priority';

export interface Prompt {
  readonly kind: PromptKind;
  readonly text: string;
  /** Where the next character goes, in characters. */
  readonly at: number;
  /** The task whose input is asked for. */
  readonly task: string | null;
  /** What is wrong with the text, or what it means; told by whoever knows the schema. */
  readonly verdict: { readonly ok: boolean; readonly text: string } | null;
  /** What is done with what is typed, chosen when the question was asked: rows may move meanwhile. */
  readonly write: Write | null;
}

/** What can be done to jobs. */
export type JobVerb = 'retry' | 'cancel' | 'delete' | 'prioritize';

/** What writes; carried out outside the reducer, which only asks for it. */
export type Write =
  | {
      readonly kind: 'jobs';
      readonly verb: JobVerb;
      /** The jobs with these ids, or all that match. */
      readonly which: readonly string[] | Filter;
      readonly priority?: number;
    }
  | { readonly kind: 'enqueue'; readonly task: string; readonly input: string }
  | { readonly kind: 'pauseQueue' | 'resumeQueue'; readonly name: string }
  | { readonly kind: 'sendMail' | 'dropMail'; readonly job: string; readonly state: MailState; readonly to: string }
  | { readonly kind: 'runSchedule' | 'pauseSchedule' | 'resumeSchedule'; readonly name: string };

/** What is asked of the virtual clock. `until`: on to an instant; `event`, `failure`: to the next one. */
export type ClockOrder =
  | { readonly kind: 'play' | 'pause' | 'event' | 'failure' }
  | { readonly kind: 'speed'; readonly speed: number }
  | { readonly kind: 'skip'; readonly ms: number }
  | { readonly kind: 'until'; readonly at: number };

export type Effect =
  | { readonly kind: 'write'; readonly write: Write }
  | { readonly kind: 'clock'; readonly order: ClockOrder }
  /** How many jobs it would concern is to be told. */
  | { readonly kind: 'count'; readonly write: Write }
  | { readonly kind: 'check'; readonly task: string; readonly input: string }
  | { readonly kind: 'rewind'; readonly at: number }
  /** The HTML of a mail is to be written to a file. */
  | { readonly kind: 'saveMail'; readonly job: string }
  | { readonly kind: 'quit' | 'suspend' | 'redraw' | 'interrupt' };

/** Infinity is as fast as it goes. */
export const speeds: readonly number[] = [1, 10, 60, 600, 3_600, Number.POSITIVE_INFINITY];

/** A virtual clock as it stands; null where time is real. */
export interface VirtualClock {
  readonly playing: boolean;
  readonly speed: number;
  readonly startedAt: number;
  readonly seed: number | null;
  /** What it is on its way to. */
  readonly until: string | null;
}

export interface Notice {
  readonly kind: 'done' | 'error';
  readonly text: string;
  /** Goes away after so many more keys. */
  readonly keys: number;
}

export interface State {
  readonly columns: number;
  readonly rows: number;
  /** The module, as people call it. */
  readonly label: string;
  readonly write: boolean;
  readonly clock: VirtualClock | null;
  readonly zone: string;
  readonly now: number;
  readonly view: ViewName;
  /** Where `esc` leads. */
  readonly back: readonly TabName[];
  readonly help: boolean;
  readonly helpDown: number;
  readonly filter: Filter;
  /** What the Events view shows. */
  readonly eventText: string;
  readonly sort: Sort;
  /** Where the pages before this one begin, and this one: null is the newest job. */
  readonly pages: readonly (string | null)[];
  readonly rowsDown: Readonly<Record<ViewName, number>>;
  readonly jobId: string | null;
  /** Every attempt's stack is shown; else that of the last one that failed. */
  readonly stacks: boolean;
  readonly selected: ReadonlySet<string>;
  /** All that matches the filter is selected, on this page or not. */
  readonly all: boolean;
  readonly prompt: Prompt | null;
  /** `counting`: how many jobs it concerns is not known yet, and it cannot be answered. */
  readonly confirm: { readonly question: string; readonly write: Write; readonly counting: boolean } | null;
  readonly notice: Notice | null;
  /** What is under way, and how far it is; until it ends there is nothing to move or to change. */
  readonly busy: string | null;
  /** The system cannot be read, and what is shown is as old as that. */
  readonly unread: { readonly since: number; readonly text: string } | null;
  /** The module's newest version cannot be used: why, line by line. */
  readonly fault: readonly string[] | null;
  /** How often the module was loaded. */
  readonly version: number;
  readonly data: Data;
  /** What the data of each view was read for; left out: it was not read yet, and says nothing about the system. */
  readonly read: Readonly<Partial<Record<ViewName, string>>>;
  readonly effects: readonly Effect[];
}

export const emptyFilter: Filter = { status: null, queue: null, task: null, tag: null, schedule: null, text: '' };

export const emptyData: Data = {
  queues: [],
  unknown: [],
  coming: [],
  failures: [],
  jobs: { items: [], cursor: null, note: null },
  job: null,
  retries: [],
  schedules: [],
  workers: [],
  events: [],
  tasks: [],
  mails: [],
  hasMail: true,
  mail: null,
};

/** The dashboard before anything was read. */
export function initialState(given: Pick<State, 'columns' | 'rows' | 'label' | 'write' | 'clock' | 'zone' | 'now'>): State {
  return {
    ...given,
    view: 'overview',
    back: [],
    help: false,
    helpDown: 0,
    filter: emptyFilter,
    eventText: '',
    sort: 'newest',
    pages: [null],
    rowsDown: { overview: 0, jobs: 0, job: 0, retries: 0, schedules: 0, workers: 0, events: 0, outbox: 0, mail: 0 },
    jobId: null,
    stacks: false,
    selected: new Set(),
    all: false,
    prompt: null,
    confirm: null,
    notice: null,
    busy: null,
    unread: null,
    fault: null,
    version: 1,
    data: emptyData,
    read: {},
    effects: [],
  };
}

/** What the present view shows, of all that it could. */
export function subjectOf({ view, jobId, filter, sort, pages, eventText }: State): string {
  if (view === 'job' || view === 'mail') return jobId ?? '';
  if (view === 'jobs') return JSON.stringify([filter, sort, pages.at(-1)]);
  return view === 'events' ? eventText : '';
}

/** False: what the present view shows was not read yet, so that nothing in it does not mean that there is nothing. */
export function isRead(state: State): boolean {
  return state.read[state.view] === subjectOf(state);
}

/** How many jobs a page of the Jobs view holds: what fits below its head and above its foot. */
export function pageSize({ rows }: Pick<State, 'rows'>): number {
  return Math.max(1, rows - 8);
}
