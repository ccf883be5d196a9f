/**
 * Every key and what it does, in one table: it decides what a key means, it prints the line at the foot of the screen, and it is the help.
 * Lower-case keys look, upper-case keys write.
 */
import { pastedText } from './decode.ts';
import { changeable } from './effects.ts';
import { type Action, reduce } from './reduce.ts';
import { knownJob, selectedJob, selectedMail, selectedQueue, selectedSchedule, targets, visibleCount } from './select.ts';
import { type JobVerb, type State, type ViewName, viewNames } from './state.ts';

export interface Binding {
  /** The first is the one that is shown. */
  readonly keys: readonly string[];
  /** How the keys are written for people, where their names would not do. */
  readonly shown?: string;
  /** Where it works; everywhere if left out. */
  readonly views?: readonly ViewName[];
  /** `virtual`: only where time is. `write`: it changes something. */
  readonly only?: 'virtual' | 'write';
  /** For the foot of the screen; left out: it is in the help alone. A key has one hint wherever it works: it means one thing. */
  readonly hint?: string;
  /** Is there anything here and now that it could be done to? The foot of the screen offers nothing else. @default yes */
  readonly applies?: (state: State) => boolean;
  readonly help: string;
  /** The more important, the longer it stays at the foot of a narrow screen; 1 is most important. */
  readonly rank?: number;
  readonly action: Action;
}

const lists: readonly ViewName[] = ['jobs', 'retries'];
const ofJobs: readonly ViewName[] = ['jobs', 'job', 'retries', 'events', 'workers'];
/** Where jobs that do not run can be chosen. */
const ofResting: readonly ViewName[] = ['jobs', 'job', 'retries', 'events'];
const ofMails: readonly ViewName[] = ['outbox', 'mail'];
const sendable: readonly string[] = ['queued', 'deferred', 'held', 'refused', 'dropped'];
const hourMs = 3_600_000;
/** Is the job under the cursor, or one of those that were selected, one that can be changed so? What is not on the screen may be. */
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
    help: 'play: time runs, or stands still',
    action: { type: 'playPause' },
  },
  {
    keys: ['n'],
    only: 'virtual',
    hint: 'event',
    rank: 2,
    help: 'on to the next event',
    action: { type: 'clock', order: { kind: 'event' } },
  },
  {
    keys: ['f'],
    only: 'virtual',
    hint: 'failure',
    rank: 2,
    help: 'on to the next failure',
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
  { keys: ['.'], only: 'virtual', help: 'one minute on', action: skip(60_000) },
  { keys: [']'], only: 'virtual', hint: '+1h', rank: 3, help: 'one hour on', action: skip(hourMs) },
  { keys: ['}'], only: 'virtual', help: 'one day on', action: skip(24 * hourMs) },
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
    help: 'back to an instant, a time, 1h',
    applies: ({ clock, now }) => clock !== null && now > clock.startedAt,
    action: { type: 'prompt', kind: 'rewind' },
  },
  {
    keys: ['return', 'l'],
    shown: '⏎',
    views: ['overview', 'jobs', 'retries', 'schedules', 'workers', 'events', 'outbox', 'mail'],
    hint: 'open',
    rank: 2,
    help: 'open what is under the cursor',
    applies: canOpen,
    action: { type: 'open' },
  },
  {
    keys: ['return', 'l'],
    shown: '⏎',
    views: ['job'],
    hint: 'open',
    rank: 4,
    help: 'open: all of it, every stack',
    applies: ({ data }) => data.job !== null && data.job !== 'gone',
    action: { type: 'open' },
  },
  { keys: ['escape', 'h'], shown: 'esc', help: 'back; no selection; no filter', action: { type: 'back' } },
  {
    keys: ['/'],
    hint: 'filter',
    rank: 3,
    help: 'filter: words, queue:mail, tag:…',
    action: { type: 'prompt', kind: 'filter' },
  },
  { keys: ['right'], shown: '→', views: ['jobs'], hint: 'status', rank: 4, help: 'the next status', action: { type: 'status', by: 1 } },
  { keys: ['left'], shown: '←', views: ['jobs'], help: 'the status before', action: { type: 'status', by: -1 } },
  {
    keys: ['s'],
    views: ['jobs'],
    hint: 'sort',
    rank: 6,
    help: 'sort by due, priority, tries …',
    applies: hasRows,
    action: { type: 'sort' },
  },
  { keys: ['x'], views: lists, hint: 'select', rank: 5, help: 'select the job, or not', applies: hasRows, action: { type: 'select' } },
  { keys: ['a'], views: ['jobs'], help: 'select all that the filter finds', action: { type: 'selectAll' } },
  {
    keys: ['T'],
    views: ofJobs,
    only: 'write',
    hint: 'run now',
    rank: 2,
    help: 'run now: failed, waiting, ended',
    applies: some('retry'),
    action: { type: 'retry' },
  },
  {
    keys: ['C'],
    views: ofJobs,
    only: 'write',
    hint: 'cancel',
    rank: 2,
    help: 'cancel what is not finished',
    applies: some('cancel'),
    action: { type: 'cancel' },
  },
  {
    keys: ['U'],
    views: ofResting,
    only: 'write',
    hint: 'priority',
    rank: 8,
    help: 'urgency: another priority',
    applies: some('prioritize'),
    action: { type: 'prioritize' },
  },
  {
    keys: ['D'],
    views: ofResting,
    only: 'write',
    hint: 'delete',
    rank: 7,
    help: 'delete what does not run',
    applies: some('delete'),
    action: { type: 'delete' },
  },
  {
    keys: ['T'],
    views: ofMails,
    only: 'write',
    hint: 'run now',
    rank: 2,
    help: 'send now, also what is held',
    applies: (state) => sendable.includes(selectedMail(state)?.state ?? 'sent'),
    action: { type: 'sendMail' },
  },
  {
    keys: ['D'],
    views: ofMails,
    only: 'write',
    hint: 'delete',
    rank: 7,
    help: 'drop: cancel or delete the mail',
    applies: (state) => selectedMail(state) !== undefined,
    action: { type: 'dropMail' },
  },
  {
    keys: ['o'],
    views: ofMails,
    hint: 'HTML',
    rank: 3,
    help: 'write the HTML, print its path',
    applies: (state) => selectedMail(state) !== undefined,
    action: { type: 'saveMail' },
  },
  {
    keys: ['T'],
    views: ['schedules'],
    only: 'write',
    hint: 'run now',
    rank: 2,
    help: 'run now: a job of the schedule',
    applies: hasSchedule,
    action: { type: 'run' },
  },
  {
    keys: ['P'],
    views: ['schedules'],
    only: 'write',
    hint: 'pause',
    rank: 2,
    help: 'pause the schedule, or resume it',
    applies: hasSchedule,
    action: { type: 'pause' },
  },
  {
    keys: ['P'],
    views: ['overview'],
    only: 'write',
    hint: 'pause',
    rank: 4,
    help: 'pause the queue, or resume it',
    applies: (state) => selectedQueue(state) !== undefined,
    action: { type: 'pause' },
  },
  {
    keys: ['E'],
    only: 'write',
    hint: 'enqueue',
    rank: 5,
    help: 'enqueue a job, its input as JSON',
    applies: ({ data }) => data.tasks.length > 0,
    action: { type: 'prompt', kind: 'task' },
  },
  { keys: ['down', 'j'], shown: '↓', help: 'down', action: { type: 'move', by: 1 } },
  { keys: ['up', 'k'], shown: '↑', help: 'up', action: { type: 'move', by: -1 } },
  { keys: ['pagedown', 'ctrl-d'], shown: 'PgDn', help: 'a page down', action: { type: 'page', by: 1 } },
  { keys: ['pageup', 'ctrl-u'], shown: 'PgUp', help: 'a page up', action: { type: 'page', by: -1 } },
  { keys: ['home'], shown: 'Home', help: 'to the first row', action: { type: 'move', by: Number.NEGATIVE_INFINITY } },
  { keys: ['end'], shown: 'End', help: 'to the last row', action: { type: 'move', by: Number.POSITIVE_INFINITY } },
  ...viewNames.map((view, i): Binding => ({ keys: [String(i + 1)], help: `the ${view} view`, action: { type: 'view', view } })),
  { keys: ['tab'], shown: 'Tab', help: 'next view; Shift-Tab: before', action: { type: 'tab', by: 1 } },
  { keys: ['shift-tab'], help: 'the view before', action: { type: 'tab', by: -1 } },
  { keys: ['?'], help: 'this help', action: { type: 'help' } },
  { keys: ['ctrl-l'], shown: '^L', help: 'draw the screen anew', action: { type: 'redraw' } },
  { keys: ['ctrl-z'], shown: '^Z', help: 'to the shell; fg comes back', action: { type: 'suspend' } },
  { keys: ['q', 'ctrl-c'], hint: 'quit', rank: 3, help: 'leave', action: { type: 'quit' } },
];

/** The bindings that mean something in the present view. */
export function bindingsOf({ view, clock, write }: Pick<State, 'view' | 'clock' | 'write'>): Binding[] {
  return bindings.filter(
    ({ views, only }) => (views?.includes(view) ?? true) && (only !== 'virtual' || clock !== null) && (only !== 'write' || write),
  );
}

/** Of these, those that there is anything for to do. */
export function offered(state: State): Binding[] {
  return bindingsOf(state).filter(({ applies, only }) => (state.busy === null || !only) && (applies?.(state) ?? true));
}

/** How a key is written for people. */
export function keyText({ keys, shown }: Pick<Binding, 'keys' | 'shown'>): string {
  return shown ?? keys[0] ?? '';
}

/** What a key does. A key that means nothing changes nothing. */
export function press(state: State, key: string): State {
  if (state.prompt) return reduce(state, { type: 'edit', key });
  if (pastedText(key) !== undefined) return state;
  // Before all is counted there is nothing to say yes to.
  if (state.confirm?.counting && answers[key]) return state;
  if (state.confirm) return reduce(quieter(state), { type: answers[key] ?? (key === 'ctrl-c' ? 'quit' : 'no') });
  if (state.busy !== null && key === 'escape') return reduce(state, { type: 'interrupt' });
  const binding = bindingsOf({ ...state, write: true }).find(({ keys }) => keys.includes(key));
  if (!binding) return state;
  if (state.busy !== null && binding.only) return state;
  const { action } = binding;
  if (binding.only === 'write' && !state.write)
    return reduce(state, { type: 'told', kind: 'error', text: 'this only looks; start it with --write to change anything' });
  // Help is left by any key, which then does what it always does.
  const open = state.help && !stays.has(action.type) ? { ...state, help: false } : state;
  return reduce(action.type === 'back' ? open : quieter(open), action);
}

/** What help is read with. */
const stays: ReadonlySet<Action['type']> = new Set(['help', 'back', 'move', 'page']);

const answers: Readonly<Record<string, 'yes'>> = { y: 'yes', Y: 'yes', return: 'yes' };

function quieter(state: State): State {
  if (!state.notice) return state;
  const keys = state.notice.keys - 1;
  return { ...state, notice: keys <= 0 ? null : { ...state.notice, keys } };
}
