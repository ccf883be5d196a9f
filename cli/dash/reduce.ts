/**
 * Changes the dashboard's state, in one pure function. Side effects (cancelling a job, moving the clock) are added to `effects`, from which
 * the dashboard takes and performs them.
 */

import { parseDuration } from '../../src/core/duration.ts';
import { type Count, describe, emptyEffects, isIds } from './effects.ts';
import { filterText, parseFilter } from './filter.ts';
import { instantNear } from './instants.ts';
import { edited, editKey, newPrompt } from './prompt.ts';
import { knownJob, moved, rowKeys, selectedJob, selectedMail, selectedQueue, selectedSchedule, targets, visibleCount } from './select.ts';
import {
  type ClockOrder,
  type Data,
  type Effect,
  emptyData,
  type Filter,
  type JobVerb,
  type PromptKind,
  pageSize,
  type State,
  sorts,
  speeds,
  subjectOf,
  type TabName,
  type VirtualClock,
  viewNames,
  type Write,
} from './state.ts';

export type Action =
  | { readonly type: 'read'; readonly now: number; readonly data: Partial<Data>; readonly clock?: VirtualClock }
  | { readonly type: 'ticked'; readonly now: number; readonly clock?: VirtualClock }
  | { readonly type: 'resized'; readonly columns: number; readonly rows: number }
  | { readonly type: 'notified'; readonly kind: 'done' | 'error'; readonly text: string }
  | { readonly type: 'unread'; readonly text: string }
  /** The application was replaced or its time was reset: nothing of it has been read yet. */
  | { readonly type: 'began' }
  | { readonly type: 'loaded' }
  | { readonly type: 'busy'; readonly text: string | null }
  | { readonly type: 'broken'; readonly lines: readonly string[] }
  | { readonly type: 'checked'; readonly input: string; readonly ok: boolean; readonly text: string }
  | { readonly type: 'counted'; readonly write: Write; readonly count: Count }
  | { readonly type: 'taken' }
  | { readonly type: 'view'; readonly view: TabName }
  | { readonly type: 'tab' | 'page'; readonly by: 1 | -1 }
  | { readonly type: 'move'; readonly by: number }
  | { readonly type: 'open' | 'back' | 'help' | 'sort' | 'select' | 'selectAll' | 'yes' | 'no' }
  | { readonly type: 'status'; readonly by: 1 | -1 }
  | { readonly type: 'prompt'; readonly kind: PromptKind }
  | { readonly type: 'edit'; readonly key: string }
  | { readonly type: 'clock'; readonly order: ClockOrder }
  | { readonly type: 'playPause' }
  | { readonly type: 'speed'; readonly by: 1 | -1 }
  | { readonly type: 'retry' | 'cancel' | 'delete' | 'prioritize' | 'pause' | 'run' }
  | { readonly type: 'sendMail' | 'dropMail' | 'saveMail' }
  | { readonly type: 'quit' | 'suspend' | 'redraw' | 'interrupt' };

export function reduce(state: State, action: Action): State {
  switch (action.type) {
    case 'read':
      return followed(state, {
        ...state,
        now: action.now,
        clock: action.clock ?? state.clock,
        data: { ...state.data, ...action.data },
        read: { ...state.read, [state.view]: subjectOf(state) },
        unread: null,
      });
    case 'began':
      return { ...state, read: {} };
    case 'ticked':
      return { ...state, now: action.now, clock: action.clock ?? state.clock };
    case 'resized':
      // The page size depends on the height of the screen, so the starts of earlier pages are no longer valid.
      return { ...state, columns: action.columns, rows: action.rows, pages: state.rows === action.rows ? state.pages : [null] };
    case 'notified':
      return { ...state, notice: { kind: action.kind, text: action.text, keys: 3 } };
    case 'unread':
      if (state.unread?.text === action.text) return state;
      return { ...state, unread: { since: state.unread?.since ?? state.now, text: action.text } };
    case 'loaded':
      return { ...state, fault: null, version: state.version + 1, notice: { kind: 'done', text: 'reloaded', keys: 3 } };
    case 'broken':
      return { ...state, fault: action.lines, notice: null };
    case 'busy':
      return { ...state, busy: action.text };
    case 'checked':
      return checked(state, action.input, { ok: action.ok, text: action.text });
    case 'taken':
      return state.effects.length === 0 ? state : { ...state, effects: emptyEffects };
    case 'view':
      return turn(state, action.view);
    case 'tab': {
      const here = viewNames.indexOf(tabOf(state));
      return turn(state, viewNames[(here + action.by + viewNames.length) % viewNames.length] as TabName);
    }
    case 'page':
      return page(state, action.by);
    case 'move':
      return move(state, action.by);
    case 'status':
      return filtered(state, { ...state.filter, status: nextStatus(state.filter.status, action.by) });
    case 'sort':
      return {
        ...state,
        sort: sorts[(sorts.indexOf(state.sort) + 1) % sorts.length] ?? 'newest',
        pages: [null],
        rowsDown: top(state, 'jobs'),
      };
    case 'open':
      return open(state);
    case 'back':
      return back(state);
    case 'help':
      return { ...state, help: !state.help, helpDown: 0 };
    case 'select':
      return select(state);
    case 'selectAll':
      return { ...state, all: !state.all, selected: new Set() };
    case 'prompt':
      return { ...state, prompt: newPrompt(action.kind, promptText(state, action.kind)), notice: null };
    case 'edit':
      return edit(state, action.key);
    case 'clock':
      return withEffect(state, { kind: 'clock', order: action.order });
    case 'playPause':
      return withEffect(state, { kind: 'clock', order: { kind: state.clock?.playing ? 'pause' : 'play' } });
    case 'speed': {
      const here = state.clock?.speed ?? 1;
      const speed = (action.by === 1 ? speeds.find((one) => one > here) : speeds.findLast((one) => one < here)) ?? here;
      return withEffect(state, { kind: 'clock', order: { kind: 'speed', speed } });
    }
    case 'retry':
    case 'cancel':
    case 'delete':
    case 'prioritize':
    case 'pause':
    case 'run':
      return wanted(state, action.type);
    case 'sendMail':
    case 'dropMail': {
      const mail = selectedMail(state);
      const { job = '', to = '', state: standing = 'queued' } = mail ?? {};
      return allowed(state, mail && { kind: action.type, job, to, state: standing }, 'no email under the cursor');
    }
    case 'saveMail': {
      const mail = selectedMail(state);
      return mail ? withEffect(state, { kind: 'saveMail', job: mail.job }) : state;
    }
    case 'yes':
      return state.confirm && !state.confirm.counting
        ? withEffect({ ...state, confirm: null }, { kind: 'write', write: state.confirm.write })
        : state;
    case 'counted':
      return counted(state, action.write, action.count);
    case 'no':
      return { ...state, confirm: null };
    default:
      return withEffect(state, { kind: action.type });
  }
}

/** The highlighted tab. For a job, it is the tab from which the job was opened. */
export function tabOf({ view, back: from }: Pick<State, 'view' | 'back'>): TabName {
  if (view === 'mail') return 'outbox';
  return view === 'job' ? (from.at(-1) ?? 'jobs') : view;
}

function withEffect(state: State, effect: Effect): State {
  return { ...state, effects: [...state.effects, effect] };
}

function turn(state: State, view: TabName): State {
  // A selection in another view is not visible and must not be changed by an action here.
  const selection = tabOf(state) === view ? {} : { selected: new Set<string>(), all: false };
  return { ...state, ...selection, view, back: [], help: false, notice: null };
}

/** Keeps the cursor on the same item when rows move, so that an action does not hit another item. */
function followed(before: State, state: State): State {
  const here = before.rowsDown[state.view];
  const was = before.pages === state.pages ? rowKeys(before)[here] : undefined;
  // The cursor stays on the latest event until the user moves it.
  const at = was === undefined || (state.view === 'events' && here === 0) ? -1 : rowKeys(state).indexOf(was);
  const last = Math.max(0, visibleCount(state) - 1);
  const next = at === -1 ? Math.min(here, last) : at;
  return next === here ? state : { ...state, rowsDown: { ...state.rowsDown, [state.view]: next } };
}

function top(state: State, view: State['view']): State['rowsDown'] {
  return { ...state.rowsDown, [view]: 0 };
}

function move(state: State, by: number): State {
  if (state.help) return { ...state, helpDown: Math.max(0, Math.min(60, state.helpDown + by)) };
  const next = moved(state, by);
  if (state.view !== 'jobs' || Math.abs(by) !== 1) return next;
  // Moving past the edge of a page turns the page.
  if (next === state) return page(state, by > 0 ? 1 : -1);
  return next;
}

function page(state: State, by: 1 | -1): State {
  if (state.help) return move(state, by * Math.max(1, state.rows - 8));
  if (state.view !== 'jobs') return moved(state, by * Math.max(1, state.rows - 8));
  const { cursor } = state.data.jobs;
  if (by === 1)
    return cursor === null ? moved(state, pageSize(state)) : { ...state, pages: [...state.pages, cursor], rowsDown: top(state, 'jobs') };
  if (state.pages.length === 1) return moved(state, -pageSize(state));
  return { ...state, pages: state.pages.slice(0, -1), rowsDown: { ...state.rowsDown, jobs: pageSize(state) - 1 } };
}

const statusOrder = [null, 'ready', 'running', 'scheduled', 'retrying', 'waiting', 'successful', 'failed', 'cancelled'] as const;

function nextStatus(status: Filter['status'], by: 1 | -1): Filter['status'] {
  return statusOrder[(statusOrder.indexOf(status) + by + statusOrder.length) % statusOrder.length] ?? null;
}

function filtered(state: State, filter: Filter): State {
  // Discard the jobs of the previous filter.
  const data = { ...state.data, jobs: emptyData.jobs };
  return { ...state, filter, data, pages: [null], rowsDown: top(state, 'jobs'), selected: new Set(), all: false };
}

function open(state: State): State {
  const from = tabOf(state);
  const job = selectedJob(state);
  if (state.view === 'job') return { ...state, stacks: !state.stacks };
  if (state.view === 'mail')
    return { ...state, view: 'job', back: ['outbox'], rowsDown: top(state, 'job'), data: { ...state.data, job: null } };
  if (state.view === 'outbox' && job)
    return { ...state, view: 'mail', back: ['outbox'], jobId: job, rowsDown: top(state, 'mail'), data: { ...state.data, mail: null } };
  if (job)
    return {
      ...state,
      view: 'job',
      back: [...state.back, from],
      jobId: job,
      rowsDown: top(state, 'job'),
      data: { ...state.data, job: null },
    };
  const queue = state.view === 'overview' ? selectedQueue(state) : undefined;
  if (queue) return filtered({ ...state, view: 'jobs', back: [from] }, { ...filterless, queue: queue.name });
  const schedule = state.view === 'schedules' ? selectedSchedule(state) : undefined;
  if (schedule) return filtered({ ...state, view: 'jobs', back: [from] }, { ...filterless, schedule: schedule.name });
  return state;
}

const filterless: Filter = { status: null, queue: null, task: null, tag: null, schedule: null, text: '' };

function back(state: State): State {
  if (state.help) return { ...state, help: false };
  if (state.notice) return { ...state, notice: null };
  if (state.selected.size > 0 || state.all) return { ...state, selected: new Set(), all: false };
  const before = state.back.at(-1);
  if (before) return { ...state, view: before, back: state.back.slice(0, -1) };
  if (state.view === 'job') return { ...state, view: 'jobs' };
  if (state.view === 'mail') return { ...state, view: 'outbox' };
  if (state.view === 'jobs' && filterText(state.filter) !== '') return filtered(state, filterless);
  if (state.view === 'events' && state.eventText !== '') return { ...state, eventText: '' };
  return state;
}

function select(state: State): State {
  const id = selectedJob(state);
  if (id === undefined || state.view === 'job') return state;
  const selected = new Set(state.selected);
  if (!selected.delete(id)) selected.add(id);
  return moved({ ...state, selected, all: false }, 1);
}

function promptText(state: State, kind: PromptKind): string {
  if (kind === 'filter') return state.view === 'events' ? state.eventText : filterText(state.filter);
  return '';
}

function edit(state: State, key: string): State {
  const { prompt } = state;
  if (!prompt) return state;
  if (key === 'escape' || key === 'ctrl-c') return { ...state, prompt: null };
  if (key === 'return') return entered(state);
  if (key === 'tab' && prompt.kind === 'task') {
    const match = state.data.tasks.find((name) => name.includes(prompt.text));
    return match ? { ...state, prompt: edited(prompt, match, match.length) } : state;
  }
  const next = editKey(prompt, key);
  if (next === prompt) return state;
  const prompted: State = { ...state, prompt: next };
  if (next.kind === 'input' && next.task !== null && next.text !== prompt.text)
    return withEffect(prompted, { kind: 'check', task: next.task, input: next.text });
  // The filter of events is applied while typing.
  if (next.kind === 'filter') return state.view === 'events' ? { ...prompted, eventText: next.text } : prompted;
  return prompted;
}

function entered(state: State): State {
  const prompt = state.prompt as NonNullable<State['prompt']>;
  const done: State = { ...state, prompt: null };
  const wrong = (text: string): State => ({ ...state, prompt: { ...prompt, verdict: { ok: false, text } } });
  switch (prompt.kind) {
    case 'filter':
      if (state.view === 'events') return { ...done, eventText: prompt.text };
      return filtered(state.view === 'jobs' ? done : { ...done, view: 'jobs', back: [tabOf(state)] }, parseFilter(prompt.text));
    case 'task': {
      const exact =
        state.data.tasks.find((name) => name === prompt.text) ?? onlyOne(state.data.tasks.filter((name) => name.includes(prompt.text)));
      if (!exact) return wrong(state.data.tasks.length === 0 ? 'no tasks are known' : 'no task matches, or several do: keep typing');
      const prompted: State = { ...state, prompt: { ...newPrompt('input', ''), task: exact } };
      return withEffect(prompted, { kind: 'check', task: exact, input: '' });
    }
    case 'input':
      if (prompt.verdict && !prompt.verdict.ok) return state;
      return withEffect(done, { kind: 'write', write: { kind: 'enqueue', task: prompt.task ?? '', input: prompt.text } });
    case 'priority': {
      const priority = Number(prompt.text.trim());
      const fits = /^[+-]?\d+$/.test(prompt.text.trim()) && Math.abs(priority) <= 100;
      if (!fits || prompt.write?.kind !== 'jobs') return wrong('an integer from -100 to 100; higher runs first');
      return confirmed(done, { ...prompt.write, priority });
    }
    case 'goto': {
      const text = prompt.text.trim();
      const ms = parseDuration(text.replace(/^\+/, ''));
      if (ms !== undefined) return withEffect(done, { kind: 'clock', order: { kind: 'skip', ms } });
      const at = instantNear(text, state, 'after');
      if (at === undefined) return wrong(`${instants}, or +90m`);
      return at < state.now ? wrong('that is in the past; R rewinds') : withEffect(done, { kind: 'clock', order: { kind: 'until', at } });
    }
    case 'rewind': {
      const text = prompt.text.trim();
      const ms = parseDuration(text.replace(/^-/, ''));
      const at = ms === undefined ? instantNear(text, state, 'before') : state.now - ms;
      const startedAt = state.clock?.startedAt ?? state.now;
      if (at === undefined) return wrong(`${instants}, or 1h for an hour ago`);
      if (at > state.now) return wrong('that is in the future; g skips there');
      if (at < startedAt) return wrong(`time began at ${new Date(startedAt).toISOString()}`);
      return withEffect({ ...done, selected: new Set(), all: false, pages: [null] }, { kind: 'rewind', at });
    }
  }
}

const instants = 'an instant such as 2026-03-29T04:00:00Z, a time of day such as 09:00';

function onlyOne<T>(items: readonly T[]): T | undefined {
  return items.length === 1 ? items[0] : undefined;
}

function checked(state: State, input: string, verdict: { readonly ok: boolean; readonly text: string }): State {
  const { prompt } = state;
  // The verdict is about an earlier text.
  if (prompt?.kind !== 'input' || prompt.text !== input) return state;
  return { ...state, prompt: { ...prompt, verdict } };
}

type Verb = JobVerb | 'pause' | 'run';

function wanted(state: State, verb: Verb): State {
  return allowed(state, writeOf(state, verb), nothingFor[verb] ?? noJob, verb);
}

/** @param emptyText the message if there is nothing to change */
function allowed(state: State, write: Write | undefined, emptyText: string, verb?: Verb): State {
  if (write === undefined) return { ...state, notice: { kind: 'error', text: emptyText, keys: 2 } };
  if (!state.write) return { ...state, notice: { kind: 'error', text: 'read-only; start with --write to make changes', keys: 3 } };
  if (verb === 'prioritize') return { ...state, prompt: newPrompt('priority', '', write), notice: null };
  return confirmed(state, write);
}

/** Requests a change immediately, or asks for confirmation first. */
function confirmed(state: State, write: Write): State {
  const question = describe(write, (id) => knownJob(state, id));
  const done: State = { ...state, selected: new Set(), all: false };
  if (question === null) return withEffect(done, { kind: 'write', write });
  const counting = write.kind === 'jobs' && !isIds(write.which);
  const prompted: State = { ...done, confirm: { question, write, counting } };
  return counting ? withEffect(prompted, { kind: 'count', write }) : prompted;
}

function counted(state: State, write: Write, count: Count): State {
  // The question may have been answered or replaced.
  if (state.confirm?.write !== write) return state;
  if (count.jobs === 0)
    return { ...state, confirm: null, notice: { kind: 'error', text: 'no matching job can be changed this way', keys: 3 } };
  const question = describe(write, (id) => knownJob(state, id), count) ?? '';
  return { ...state, confirm: { question, write, counting: false } };
}

const noJob = 'no job under the cursor';
const nothingFor: Partial<Record<Verb, string>> = {
  pause: 'nothing to pause under the cursor',
  run: 'no schedule under the cursor',
};

function writeOf(state: State, verb: Verb): Write | undefined {
  const schedule = state.view === 'schedules' ? selectedSchedule(state) : undefined;
  if (verb === 'run') return schedule && { kind: 'runSchedule', name: schedule.name };
  if (verb === 'pause') {
    if (schedule) return { kind: schedule.state === 'paused' ? 'resumeSchedule' : 'pauseSchedule', name: schedule.name };
    const queue = state.view === 'overview' ? selectedQueue(state) : undefined;
    return queue && { kind: queue.paused ? 'resumeQueue' : 'pauseQueue', name: queue.name };
  }
  if (state.all && state.view === 'jobs') return { kind: 'jobs', verb, which: state.filter };
  const ids = targets(state);
  return ids.length === 0 ? undefined : { kind: 'jobs', verb, which: ids };
}
