/**
 * The dashboard's state, as plain data: what was read from the system, and the user's position in it. Only `reduce` changes it; views only
 * read it. Instants are epoch milliseconds.
 */
import type { Status } from 'escapement';
import type { MailState } from '../mail.ts';

export const viewNames = ['overview', 'jobs', 'retries', 'schedules', 'workers', 'events', 'outbox'] as const;
/** The views with a tab. */
export type TabName = (typeof viewNames)[number];
export type ViewName = TabName | 'job' | 'mail';

export interface QueueItem {
  readonly name: string;
  readonly paused: boolean;
  readonly counts: Readonly<Record<Status, number>>;
  /** The number of attempts that live workers serving the queue can run at a time; null if no worker serves it. */
  readonly slots: number | null;
  readonly oldestReadyAt: number | null;
  /** The number of jobs that finished in each of the last 30 minutes, the current minute last. */
  readonly minutes: readonly number[];
  /** The number of jobs that finished in the last 60 s. */
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
  /** The worker of the last attempt. */
  readonly worker: string | null;
  /** The delays between the remaining attempts, without jitter; null if the retry policy is unknown here. */
  readonly waits: readonly number[] | null;
}

/** The latest of the jobs that failed with the same error, and their number. */
export interface Failure extends JobItem {
  readonly times: number;
}

/** An attempt. */
export interface Attempt {
  readonly attempt: number;
  readonly worker: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly outcome: string;
  readonly error: string | null;
  /** The frames of its stack, those in the user's files first. */
  readonly frames: readonly string[];
}

export interface JobDetail extends JobItem {
  /** The lines of the last error; empty if there is none. */
  readonly fault: readonly string[];
  /** As indented JSON. */
  readonly input: readonly string[];
  readonly returned: readonly string[] | null;
  readonly history: readonly Attempt[];
  readonly log: readonly { readonly at: number; readonly level: string; readonly text: string }[];
  /** Its unique key, the signal it waits for, and its part in a workflow, as texts by title. */
  readonly facts: readonly (readonly [title: string, text: string])[];
  /** Its recorded steps. */
  readonly steps: readonly { readonly at: number; readonly name: string; readonly text: string }[];
  /** The related jobs: those that led to it and those that it led to; empty if there are none. */
  readonly tree: readonly { readonly lead: string; readonly text: string; readonly status: Status | null; readonly isThis: boolean }[];
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
  /** For each hour of the local day: the status of its job, `coming`, or null. */
  readonly hours: readonly (Status | 'coming' | null)[];
  /** The current local hour. */
  readonly hour: number;
  /** The clock change on the day of the next occurrence. */
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
  /** Null for a worker of this process, whose heartbeat does not matter. */
  readonly heartbeatAt: number | null;
  readonly jobs: readonly { readonly id: string; readonly task: string; readonly since: number | null }[];
}

export interface EventItem {
  readonly seq: number;
  /** Its identity, if not `seq`: numbers change when events are reconstructed at every read. */
  readonly key?: string;
  readonly at: number;
  readonly type: string;
  readonly task: string;
  /** The job's id, or an empty string. */
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
  /** The addresses that were not accepted, with the reason. */
  readonly refused: readonly string[];
  readonly attachments: readonly string[];
  /** Null if they are not kept for this mail. */
  readonly headers: readonly string[] | null;
  readonly text: readonly string[] | null;
}

/** An upcoming job on the overview. */
export interface Coming {
  readonly at: number;
  readonly status: 'retrying' | 'scheduled';
  readonly name: string;
  readonly note: string;
  /** The job, if it already exists. */
  readonly job: string | null;
}

/** The data read from the system. Data that the current view does not show is not refreshed. */
export interface Data {
  readonly queues: readonly QueueItem[];
  /** Tasks of ready jobs that no live worker can run. */
  readonly unknown: readonly { readonly task: string; readonly jobs: number }[];
  readonly coming: readonly Coming[];
  readonly failures: readonly Failure[];
  /** The limits by key that are full: `sync ada 2/2`. */
  readonly full: readonly string[];
  readonly jobs: { readonly items: readonly JobItem[]; readonly cursor: string | null; readonly note: string | null };
  /** Null: not read yet. */
  readonly job: JobDetail | 'gone' | null;
  readonly retries: readonly JobItem[];
  readonly schedules: readonly ScheduleItem[];
  readonly workers: readonly WorkerItem[];
  readonly events: readonly EventItem[];
  readonly tasks: readonly string[];
  readonly mails: readonly MailItem[];
  /** False if the application does not define mail. */
  readonly hasMail: boolean;
  /** Null: not read yet. */
  readonly mail: MailDetail | 'gone' | null;
}

/** The filter of the Jobs view. `text` is searched in ids, tasks, errors and inputs. */
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
  /** The cursor position, in characters. */
  readonly at: number;
  /** The task whose input is typed. */
  readonly task: string | null;
  /** The result of validating the text against the task's schema. */
  readonly verdict: { readonly ok: boolean; readonly text: string } | null;
  /** The change that the text completes. It is fixed when the prompt opens, because rows may move in the meantime. */
  readonly write: Write | null;
}

/** The changes that apply to jobs. */
export type JobVerb = 'retry' | 'cancel' | 'delete' | 'prioritize';

/** A change of the system. The reducer requests it; the dashboard performs it. */
export type Write =
  | {
      readonly kind: 'jobs';
      readonly verb: JobVerb;
      /** Job ids, or a filter for all matching jobs. */
      readonly which: readonly string[] | Filter;
      readonly priority?: number;
    }
  | { readonly kind: 'enqueue'; readonly task: string; readonly input: string }
  | { readonly kind: 'pauseQueue' | 'resumeQueue'; readonly name: string }
  | { readonly kind: 'sendMail' | 'dropMail'; readonly job: string; readonly state: MailState; readonly to: string }
  | { readonly kind: 'runSchedule' | 'pauseSchedule' | 'resumeSchedule'; readonly name: string };

/** A command for the virtual clock. `until`: skip to an instant; `event`, `failure`: skip to the next one. */
export type ClockOrder =
  | { readonly kind: 'play' | 'pause' | 'event' | 'failure' }
  | { readonly kind: 'speed'; readonly speed: number }
  | { readonly kind: 'skip'; readonly ms: number }
  | { readonly kind: 'until'; readonly at: number };

export type Effect =
  | { readonly kind: 'write'; readonly write: Write }
  | { readonly kind: 'clock'; readonly order: ClockOrder }
  /** Count the jobs that the change applies to. */
  | { readonly kind: 'count'; readonly write: Write }
  | { readonly kind: 'check'; readonly task: string; readonly input: string }
  | { readonly kind: 'rewind'; readonly at: number }
  /** Write the HTML of a mail to a file. */
  | { readonly kind: 'saveMail'; readonly job: string }
  | { readonly kind: 'quit' | 'suspend' | 'redraw' | 'interrupt' };

/** Infinity means as fast as possible. */
export const speeds: readonly number[] = [1, 10, 60, 600, 3_600, Number.POSITIVE_INFINITY];

/** The state of the virtual clock. */
export interface VirtualClock {
  readonly playing: boolean;
  readonly speed: number;
  readonly startedAt: number;
  readonly seed: number | null;
  /** What it is skipping to. */
  readonly until: string | null;
}

export interface Notice {
  readonly kind: 'done' | 'error';
  readonly text: string;
  /** The number of key presses after which it disappears. */
  readonly keys: number;
}

export interface State {
  readonly columns: number;
  readonly rows: number;
  /** The displayed name of the module. */
  readonly label: string;
  readonly write: boolean;
  readonly clock: VirtualClock | null;
  readonly zone: string;
  readonly now: number;
  readonly view: ViewName;
  /** The views that `esc` returns to, the last one first. */
  readonly back: readonly TabName[];
  readonly help: boolean;
  readonly helpDown: number;
  readonly filter: Filter;
  /** The filter of the Events view. */
  readonly eventText: string;
  readonly sort: Sort;
  /** The start cursors of the previous pages and of this one; null is the newest job. */
  readonly pages: readonly (string | null)[];
  readonly rowsDown: Readonly<Record<ViewName, number>>;
  readonly jobId: string | null;
  /** True to show the stack of every attempt; otherwise only that of the last failed one is shown. */
  readonly stacks: boolean;
  readonly selected: ReadonlySet<string>;
  /** True if all jobs that match the filter are selected, including those on other pages. */
  readonly all: boolean;
  readonly prompt: Prompt | null;
  /** `counting`: the jobs are still being counted, and the question cannot be answered yet. */
  readonly confirm: { readonly question: string; readonly write: Write; readonly counting: boolean } | null;
  readonly notice: Notice | null;
  /** The progress of a long operation. Until it ends, other actions are disabled. */
  readonly busy: string | null;
  /** Set while the system cannot be read: the displayed data is from `since`. */
  readonly unread: { readonly since: number; readonly text: string } | null;
  /** Why the newest version of the module cannot be loaded, as lines. */
  readonly fault: readonly string[] | null;
  /** The number of times the module was loaded. */
  readonly version: number;
  readonly data: Data;
  /** The subject for which each view's data was last read. A view without an entry has not been read yet. */
  readonly read: Readonly<Partial<Record<ViewName, string>>>;
  readonly effects: readonly Effect[];
}

export const emptyFilter: Filter = { status: null, queue: null, task: null, tag: null, schedule: null, text: '' };

export const emptyData: Data = {
  queues: [],
  unknown: [],
  coming: [],
  failures: [],
  full: [],
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

/** The state before anything was read. */
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

/** The subject of the current view: the filter, job or mail that it shows. */
export function subjectOf({ view, jobId, filter, sort, pages, eventText }: State): string {
  if (view === 'job' || view === 'mail') return jobId ?? '';
  if (view === 'jobs') return JSON.stringify([filter, sort, pages.at(-1)]);
  return view === 'events' ? eventText : '';
}

/** False if the data of the current view has not been read yet, so that an empty view does not mean that there is nothing. */
export function isRead(state: State): boolean {
  return state.read[state.view] === subjectOf(state);
}

/** The number of jobs on a page of the Jobs view: the rows between its header and its footer. */
export function pageSize({ rows }: Pick<State, 'rows'>): number {
  return Math.max(1, rows - 8);
}
