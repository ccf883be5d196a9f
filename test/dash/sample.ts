/** A small state, written by hand. */
import {
  emptyData,
  initialState,
  type JobItem,
  type MailItem,
  type QueueItem,
  type ScheduleItem,
  type State,
} from '../../cli/dash/state.ts';

export const now = Date.parse('2026-03-29T01:12:40Z');

const counts = { waiting: 0, scheduled: 4, ready: 12, retrying: 2, running: 8, successful: 90, failed: 1, cancelled: 0 };

export function jobNamed(i: number, change: Partial<JobItem> = {}): JobItem {
  return {
    id: `job-${i}`,
    task: 'mail.welcome',
    status: 'retrying',
    queue: 'mail',
    priority: 0,
    attempts: 1,
    maxAttempts: 5,
    tags: [],
    schedule: null,
    enqueuedAt: now - 60_000,
    dueAt: now + 7_000,
    startedAt: now - 50_000,
    lastAttemptedAt: now - 50_000,
    finishedAt: null,
    reason: null,
    error: 'GatewayError: 503',
    progress: null,
    worker: 'w0',
    waits: [10_000, 50_000],
    ...change,
  };
}

export function queueNamed(name: string, change: Partial<QueueItem> = {}): QueueItem {
  return {
    name,
    paused: false,
    counts,
    slots: 10,
    oldestReadyAt: now - 800,
    perMinute: 6,
    minutes: Array.from({ length: 30 }, (_, i) => i % 7),
    ...change,
  };
}

export function scheduleNamed(name: string, change: Partial<ScheduleItem> = {}): ScheduleItem {
  return {
    name,
    task: 'digest',
    queue: 'mail',
    words: 'At 09:00 (Europe/Berlin)',
    zone: 'Europe/Berlin',
    state: 'active',
    why: null,
    runs: 3,
    nextAt: now + 3_600_000,
    next: [now + 3_600_000],
    last: { status: 'successful', at: now - 3_600_000, tookMs: 900 },
    hours: Array.from({ length: 24 }, (_, i) => (i === 1 ? 'successful' : i === 9 ? 'coming' : null)),
    hour: 3,
    clocks: 'clocks go forward at 02:00, +1h',
    ...change,
  };
}

export function mailNamed(i: number, change: Partial<MailItem> = {}): MailItem {
  return {
    job: `job-${i}`,
    task: 'mail.welcome',
    state: 'sent',
    at: now - 60_000,
    to: 'ada@example.org',
    subject: 'Welcome',
    attempts: 1,
    note: '',
    ...change,
  };
}

export function sample(columns = 80, rows = 24): State {
  const state = initialState({
    columns,
    rows,
    label: 'tasks.ts',
    write: true,
    clock: { playing: false, speed: 60, startedAt: now - 3_600_000, seed: 7, until: null },
    zone: 'UTC',
    now,
  });
  const jobs = [0, 1, 2, 3, 4].map((i) => jobNamed(i));
  return {
    ...state,
    read: { overview: '' },
    data: {
      ...emptyData,
      queues: [queueNamed('default'), queueNamed('mail')],
      jobs: { items: jobs, cursor: null, note: null },
      retries: jobs,
      schedules: [scheduleNamed('digest')],
      tasks: ['mail.welcome', 'payment.capture'],
      mails: [mailNamed(0, { state: 'held' }), mailNamed(1, { state: 'queued' })],
    },
  };
}
