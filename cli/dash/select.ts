/** The selection: the rows of the current view, the row under the cursor, and the jobs that an action applies to. */
import type { Known } from './effects.ts';
import type { EventItem, MailItem, QueueItem, ScheduleItem, State } from './state.ts';
import { bodyLines } from './views/job.ts';
import { mailLines } from './views/mail.ts';

/** The number of rows that the cursor can be on. */
export function visibleCount(state: State): number {
  const { data } = state;
  switch (state.view) {
    case 'overview':
      return data.queues.length;
    case 'jobs':
      return data.jobs.items.length;
    case 'job':
      return jobLinesCount(state);
    case 'retries':
      return data.retries.length;
    case 'schedules':
      return data.schedules.length;
    case 'workers':
      return data.workers.length;
    case 'events':
      return shownEvents(state).length;
    case 'outbox':
      return data.mails.length;
    case 'mail':
      return mailLinesCount(state);
  }
}

/** The view of a job scrolls until its last line is visible. */
function jobLinesCount(state: State): number {
  const { job } = state.data;
  if (!job || job === 'gone') return 1;
  return Math.max(1, bodyLines(job, state, state.columns).length - Math.max(1, state.rows - aroundJob) + 1);
}

function mailLinesCount(state: State): number {
  const { mail } = state.data;
  if (!mail || mail === 'gone') return 1;
  return Math.max(1, mailLines(mail, state, state.columns).length - Math.max(1, state.rows - aroundJob) + 1);
}

/** The mail under the cursor, or the open mail. */
export function selectedMail({ view, data, rowsDown }: State): MailItem | undefined {
  if (view === 'outbox') return data.mails[rowsDown.outbox];
  return view === 'mail' && data.mail && data.mail !== 'gone' ? data.mail : undefined;
}

/** The lines above and below those of the job, including the longest notice. */
const aroundJob = 12;

/** Moves the cursor. Returns the same object if it does not move. */
export function moved(state: State, by: number): State {
  const last = Math.max(0, visibleCount(state) - 1);
  const here = state.rowsDown[state.view];
  const next = Math.min(last, Math.max(0, here + by));
  return next === here ? state : { ...state, rowsDown: { ...state.rowsDown, [state.view]: next } };
}

/** The events that match the filter, newest first. */
export function shownEvents({ data, eventText }: Pick<State, 'data' | 'eventText'>): readonly EventItem[] {
  const text = eventText.trim().toLowerCase();
  if (text === '') return data.events;
  const words = text.split(/\s+/);
  return data.events.filter((event) => {
    const line = `${event.type} ${event.task} ${event.job} ${event.worker} ${event.text}`.toLowerCase();
    return words.every((word) => line.includes(word));
  });
}

export function selectedQueue(state: State): QueueItem | undefined {
  return state.data.queues[state.rowsDown.overview];
}

export function selectedSchedule(state: State): ScheduleItem | undefined {
  return state.data.schedules[state.rowsDown.schedules];
}

/** The id of the job under the cursor. */
export function selectedJob(state: State): string | undefined {
  const { data, rowsDown, view } = state;
  switch (view) {
    case 'jobs':
      return data.jobs.items[rowsDown.jobs]?.id;
    case 'retries':
      return data.retries[rowsDown.retries]?.id;
    case 'events':
      return shownEvents(state)[rowsDown.events]?.job || undefined;
    case 'workers':
      return data.workers[rowsDown.workers]?.jobs[0]?.id;
    case 'outbox':
      return data.mails[rowsDown.outbox]?.job;
    case 'job':
    case 'mail':
      return state.jobId ?? undefined;
    default:
      return undefined;
  }
}

/** The jobs that an action applies to: the selected ones, otherwise the one under the cursor. */
export function targets(state: State): readonly string[] {
  if (state.selected.size > 0 && (state.view === 'jobs' || state.view === 'retries')) return [...state.selected];
  const id = selectedJob(state);
  return id === undefined ? [] : [id];
}

/** Finds a job in the data that was read. */
export function knownJob({ data }: Pick<State, 'data'>, id: string): Known | undefined {
  const { job } = data;
  if (job && job !== 'gone' && job.id === id) return job;
  const found = [data.jobs.items, data.retries, data.failures].flat().find((one) => one.id === id);
  if (found) return found;
  const running = data.workers.flatMap(({ jobs }) => jobs).find((one) => one.id === id);
  return running && { task: running.task, status: 'running' };
}

/** The identity of each row of the view. */
export function rowKeys(state: State): readonly (string | number)[] {
  const { data } = state;
  switch (state.view) {
    case 'overview':
      return data.queues.map(({ name }) => name);
    case 'jobs':
      return data.jobs.items.map(({ id }) => id);
    case 'retries':
      return data.retries.map(({ id }) => id);
    case 'schedules':
      return data.schedules.map(({ name }) => name);
    case 'workers':
      return data.workers.map(({ id }) => id);
    case 'events':
      return shownEvents(state).map(({ seq, key }) => key ?? seq);
    case 'outbox':
      return data.mails.map(({ job }) => job);
    case 'job':
    case 'mail':
      return [];
  }
}
