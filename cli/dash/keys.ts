/**
 * The table of all key bindings. It maps keys to actions and is the source of the footer and of the help. Lower-case keys only read;
 * upper-case keys write.
 */
import { pastedText } from './decode.ts';
import { changeable } from './effects.ts';
import { type Action, reduce } from './reduce.ts';
import { knownJob, selectedJob, selectedMail, selectedQueue, selectedSchedule, targets, visibleCount } from './select.ts';
import { type JobVerb, type State, type ViewName, viewNames } from './state.ts';

export interface Binding {
  /** The first one is displayed. */
  readonly keys: readonly string[];
  /** The displayed name of the keys, if it differs from the key's name. */
  readonly shown?: string;
  /** The views in which it works. @default all */
  readonly views?: readonly ViewName[];
  /** `virtual`: only in virtual time. `write`: it makes changes. */
  readonly only?: 'virtual' | 'write';
  /** The label in the footer. Without one, the key is only in the help. A key has the same hint in every view, because it means the same. */
  readonly hint?: string;
  /** True if the action currently applies to something. Otherwise the footer omits the key. @default always true */
  readonly applies?: (state: State) => boolean;
  readonly help: string;
  /** Narrow screens drop the highest ranks from the footer first; 1 is the most important. */
  readonly rank?: number;
  readonly action: Action;
}

const lists: readonly ViewName[] = ['jobs', 'retries'];
const ofJobs: readonly ViewName[] = ['jobs', 'job', 'retries', 'events', 'workers'];
/** The views that show jobs other than running ones. */
const ofResting: readonly ViewName[] = ['jobs', 'job', 'retries', 'events'];
const ofMails: readonly ViewName[] = ['outbox', 'mail'];
const sendable: readonly string[] = ['queued', 'deferred', 'held', 'refused', 'dropped'];
const hourMs = 3_600_000;
/** True if the verb applies to the job under the cursor or to a selected job. Jobs that are not on the screen are assumed to qualify. */
const some =
  (verb: JobVerb) =>
  (state: State): boolean =>
    state.data.job !== 'gone' || state.view !== 'job'
      ? (state.all && state.view === 'jobs' && state.data.jobs.items.length > 0) ||
        targets(state).some((id) => changeable[verb].includes(knownJob(state, id)?.status ?? 'scheduled'))
      : false;
const hasSchedule = (state: State) => selectedSchedule(state) !== undefined;
const hasRows = (state: State) => visibleCount(state) > 0;
const canOpen = (state: State) =>
  state.view === 'overview'
    ? selectedQueue(state) !== undefined
    : state.view === 'schedules'
      ? hasSchedule(state)
      : selectedJob(state) !== undefined;
const skip = (ms: number): Action => ({ type: 'clock', order: { kind: 'skip', ms } });

export const bindings: readonly Binding[] = [
  {
    keys: ['space'],
    only: 'virtual',
    hint: 'play',
    rank: 1,
    help: 'play or pause virtual time',
    action: { type: 'playPause' },
  },
  {
    keys: ['n'],
    only: 'virtual',
    hint: 'event',
    rank: 2,
    help: 'skip to the next event',
    action: { type: 'clock', order: { kind: 'event' } },
  },
  {
    keys: ['f'],
    only: 'virtual',
    hint: 'failure',
    rank: 2,
    help: 'skip to the next failure',
    action: { type: 'clock', order: { kind: 'failure' } },
  },
  {
    keys: ['+', '='],
    only: 'virtual',
    hint: 'faster',
    rank: 4,
    help: 'faster, up to ×3600 and max',
    applies: ({ clock }) => Number.isFinite(clock?.speed),
    action: { type: 'speed', by: 1 },
  },
  { keys: ['-'], only: 'virtual', help: 'slower', action: { type: 'speed', by: -1 } },
  { keys: ['.'], only: 'virtual', help: 'one minute forward', action: skip(60_000) },
  { keys: [']'], only: 'virtual', hint: '+1h', rank: 3, help: 'one hour forward', action: skip(hourMs) },
  { keys: ['}'], only: 'virtual', help: 'one day forward', action: skip(24 * hourMs) },
  {
    keys: ['g'],
    only: 'virtual',
    hint: 'go to',
    rank: 5,
    help: 'go to an instant, a time, +90m',
    action: { type: 'prompt', kind: 'goto' },
  },
  {
    keys: ['R'],
    only: 'virtual',
    hint: 'rewind',
    rank: 5,
    help: 'rewind to an instant, a time, 1h',
    applies: ({ clock, now }) => clock !== null && now > clock.startedAt,
    action: { type: 'prompt', kind: 'rewind' },
  },
  {
    keys: ['return', 'l'],
    shown: '⏎',
    views: ['overview', 'jobs', 'retries', 'schedules', 'workers', 'events', 'outbox', 'mail'],
    hint: 'open',
    rank: 2,
    help: 'open the row under the cursor',
    applies: canOpen,
    action: { type: 'open' },
  },
  {
    keys: ['return', 'l'],
    shown: '⏎',
    views: ['job'],
    hint: 'open',
    rank: 4,
    help: 'expand everything, every stack',
    applies: ({ data }) => data.job !== null && data.job !== 'gone',
    action: { type: 'open' },
  },
  { keys: ['escape', 'h'], shown: 'esc', help: 'back; clear selection, filter', action: { type: 'back' } },
  {
    keys: ['/'],
    hint: 'filter',
    rank: 3,
    help: 'filter: words, queue:mail, tag:…',
    action: { type: 'prompt', kind: 'filter' },
  },
  { keys: ['right'], shown: '→', views: ['jobs'], hint: 'status', rank: 4, help: 'next status', action: { type: 'status', by: 1 } },
  { keys: ['left'], shown: '←', views: ['jobs'], help: 'previous status', action: { type: 'status', by: -1 } },
  {
    keys: ['s'],
    views: ['jobs'],
    hint: 'sort',
    rank: 6,
    help: 'sort by due, priority, tries …',
    applies: hasRows,
    action: { type: 'sort' },
  },
  { keys: ['x'], views: lists, hint: 'select', rank: 5, help: 'select or deselect the job', applies: hasRows, action: { type: 'select' } },
  { keys: ['a'], views: ['jobs'], help: 'select all matching jobs', action: { type: 'selectAll' } },
  {
    keys: ['T'],
    views: ofJobs,
    only: 'write',
    hint: 'run now',
    rank: 2,
    help: 'run now, unless running or done',
    applies: some('retry'),
    action: { type: 'retry' },
  },
  {
    keys: ['C'],
    views: ofJobs,
    only: 'write',
    hint: 'cancel',
    rank: 2,
    help: 'cancel, unless finished',
    applies: some('cancel'),
    action: { type: 'cancel' },
  },
  {
    keys: ['U'],
    views: ofResting,
    only: 'write',
    hint: 'priority',
    rank: 8,
    help: 'urgency: change the priority',
    applies: some('prioritize'),
    action: { type: 'prioritize' },
  },
  {
    keys: ['D'],
    views: ofResting,
    only: 'write',
    hint: 'delete',
    rank: 7,
    help: 'delete, unless running',
    applies: some('delete'),
    action: { type: 'delete' },
  },
  {
    keys: ['T'],
    views: ofMails,
    only: 'write',
    hint: 'run now',
    rank: 2,
    help: 'send now, even if held',
    applies: (state) => sendable.includes(selectedMail(state)?.state ?? 'sent'),
    action: { type: 'sendMail' },
  },
  {
    keys: ['D'],
    views: ofMails,
    only: 'write',
    hint: 'delete',
    rank: 7,
    help: 'drop: cancel or delete it',
    applies: (state) => selectedMail(state) !== undefined,
    action: { type: 'dropMail' },
  },
  {
    keys: ['o'],
    views: ofMails,
    hint: 'HTML',
    rank: 3,
    help: 'save the HTML, show its path',
    applies: (state) => selectedMail(state) !== undefined,
    action: { type: 'saveMail' },
  },
  {
    keys: ['T'],
    views: ['schedules'],
    only: 'write',
    hint: 'run now',
    rank: 2,
    help: 'run now: enqueue one job',
    applies: hasSchedule,
    action: { type: 'run' },
  },
  {
    keys: ['P'],
    views: ['schedules'],
    only: 'write',
    hint: 'pause',
    rank: 2,
    help: 'pause or resume the schedule',
    applies: hasSchedule,
    action: { type: 'pause' },
  },
  {
    keys: ['P'],
    views: ['overview'],
    only: 'write',
    hint: 'pause',
    rank: 4,
    help: 'pause or resume the queue',
    applies: (state) => selectedQueue(state) !== undefined,
    action: { type: 'pause' },
  },
  {
    keys: ['E'],
    only: 'write',
    hint: 'enqueue',
    rank: 5,
    help: 'enqueue a job with JSON input',
    applies: ({ data }) => data.tasks.length > 0,
    action: { type: 'prompt', kind: 'task' },
  },
  { keys: ['down', 'j'], shown: '↓', help: 'down', action: { type: 'move', by: 1 } },
  { keys: ['up', 'k'], shown: '↑', help: 'up', action: { type: 'move', by: -1 } },
  { keys: ['pagedown', 'ctrl-d'], shown: 'PgDn', help: 'page down', action: { type: 'page', by: 1 } },
  { keys: ['pageup', 'ctrl-u'], shown: 'PgUp', help: 'page up', action: { type: 'page', by: -1 } },
  { keys: ['home'], shown: 'Home', help: 'first row', action: { type: 'move', by: Number.NEGATIVE_INFINITY } },
  { keys: ['end'], shown: 'End', help: 'last row', action: { type: 'move', by: Number.POSITIVE_INFINITY } },
  ...viewNames.map((view, i): Binding => ({ keys: [String(i + 1)], help: `${view} view`, action: { type: 'view', view } })),
  { keys: ['tab'], shown: 'Tab', help: 'next view; Shift-Tab: previous', action: { type: 'tab', by: 1 } },
  { keys: ['shift-tab'], help: 'previous view', action: { type: 'tab', by: -1 } },
  { keys: ['?'], help: 'this help', action: { type: 'help' } },
  { keys: ['ctrl-l'], shown: '^L', help: 'redraw the screen', action: { type: 'redraw' } },
  { keys: ['ctrl-z'], shown: '^Z', help: 'suspend to the shell; fg resumes', action: { type: 'suspend' } },
  { keys: ['q', 'ctrl-c'], hint: 'quit', rank: 3, help: 'quit', action: { type: 'quit' } },
];

/** The bindings of the current view. */
export function bindingsOf({ view, clock, write }: Pick<State, 'view' | 'clock' | 'write'>): Binding[] {
  return bindings.filter(
    ({ views, only }) => (views?.includes(view) ?? true) && (only !== 'virtual' || clock !== null) && (only !== 'write' || write),
  );
}

/** The bindings whose action currently applies. */
export function offered(state: State): Binding[] {
  return bindingsOf(state).filter(({ applies, only }) => (state.busy === null || !only) && (applies?.(state) ?? true));
}

/** The displayed name of a key. */
export function keyText({ keys, shown }: Pick<Binding, 'keys' | 'shown'>): string {
  return shown ?? keys[0] ?? '';
}

/** Applies a key to the state. Unbound keys change nothing. */
export function press(state: State, key: string): State {
  if (state.prompt) return reduce(state, { type: 'edit', key });
  if (pastedText(key) !== undefined) return state;
  // A question cannot be confirmed before the jobs are counted.
  if (state.confirm?.counting && answers[key]) return state;
  if (state.confirm) return reduce(quieter(state), { type: answers[key] ?? (key === 'ctrl-c' ? 'quit' : 'no') });
  if (state.busy !== null && key === 'escape') return reduce(state, { type: 'interrupt' });
  const binding = bindingsOf({ ...state, write: true }).find(({ keys }) => keys.includes(key));
  if (!binding) return state;
  if (state.busy !== null && binding.only) return state;
  const { action } = binding;
  if (binding.only === 'write' && !state.write)
    return reduce(state, { type: 'notified', kind: 'error', text: 'read-only; start with --write to make changes' });
  // Any key closes the help and then has its usual effect.
  const open = state.help && !stays.has(action.type) ? { ...state, help: false } : state;
  return reduce(action.type === 'back' ? open : quieter(open), action);
}

/** The keys that scroll the help. */
const stays: ReadonlySet<Action['type']> = new Set(['help', 'back', 'move', 'page']);

const answers: Readonly<Record<string, 'yes'>> = { y: 'yes', Y: 'yes', return: 'yes' };

function quieter(state: State): State {
  if (!state.notice) return state;
  const keys = state.notice.keys - 1;
  return { ...state, notice: keys <= 0 ? null : { ...state.notice, keys } };
}
