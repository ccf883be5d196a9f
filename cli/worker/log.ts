/**
 * A worker's log: JSON lines for programs, or aligned lines for a terminal. Jobs are logged from their events. Inputs are logged only on
 * request, with secrets removed.
 */
import type { Event } from 'escapement';
import { pino } from 'pino';
import { clean, escapeUnsafe, type Mark, type Paint, padEnd, painter, plural, shorten, wantsColour } from '../format.ts';
import type { Io } from '../io.ts';
import { shortDuration } from '../time.ts';
import { redact } from './redact.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface Log {
  write(level: LogLevel, fields: Readonly<Record<string, unknown>>, message: string): void;
  event(event: Event): void;
}

interface Options {
  readonly worker: string;
  readonly level: LogLevel;
  readonly logInput: boolean;
}

export function createLog(io: Pick<Io, 'stdout' | 'env' | 'now'>, { worker, level, logInput }: Options): Log {
  const paint = painter(wantsColour(io.stdout, io.env));
  const lines = pino(
    {
      level,
      messageKey: 'message',
      base: null,
      timestamp: () => `,"time":"${new Date(io.now()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    {
      write: (line: string) => io.stdout.write(io.stdout.isTTY ? `${prettyLine(JSON.parse(line), paint)}\n` : escapeUnsafe(line)),
    },
  );
  const write: Log['write'] = (lineLevel, fields, message) => lines[lineLevel]({ worker, ...fields }, message);
  return {
    write,
    event(event) {
      // The process logs this itself, with its queues and tasks.
      if (event.type === 'workerStarted') return;
      const line = lineOf(event, logInput);
      if (!lines.isLevelEnabled(line.level)) return;
      const input = logInput && event.type === 'started' ? { input: inputOf(event.job.input) } : {};
      write(line.level, { ...subject(event), ...line.fields, ...input }, line.message);
    },
  };
}

function subject(event: Event): Record<string, unknown> {
  if (event.type === 'skipped') return { task: event.task };
  if (!('job' in event)) return { worker: event.worker };
  const { id, task } = event.job;
  const of = { ...('worker' in event && event.worker !== null ? { worker: event.worker } : {}), task, job: id };
  return 'attempt' in event ? { ...of, attempt: event.attempt } : of;
}

function inputOf(encoded: string | null): unknown {
  try {
    return encoded === null ? null : redact(JSON.parse(encoded));
  } catch {
    return '[no JSON]';
  }
}

interface Line {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields?: Readonly<Record<string, unknown>>;
}

function lineOf(event: Event, logInput: boolean): Line {
  const plain = (level: LogLevel, message: string, fields: Line['fields'] = {}): Line => ({
    level,
    message,
    fields: { event: event.type, ...fields },
  });
  switch (event.type) {
    case 'successful':
      return plain('info', 'successful', took(event));
    case 'retrying':
      return plain('warn', `failed, retrying in ${shortDuration(Math.max(0, event.dueAt - event.at))}: ${brief(event.error)}`, {
        ...took(event),
        dueAt: iso(event.dueAt),
        error: event.error,
      });
    case 'snoozed':
      return plain('info', `snoozed for ${shortDuration(Math.max(0, event.dueAt - event.at))}`, {
        ...took(event),
        dueAt: iso(event.dueAt),
      });
    case 'failed':
      return plain(
        'error',
        `failed permanently${event.job.reason ? `, ${event.job.reason}` : ''}${event.error ? `: ${brief(event.error)}` : ''}`,
        { ...took(event), reason: event.job.reason, error: event.error },
      );
    case 'cancelled':
      return plain('info', `cancelled: ${event.job.reason}`, { ...took(event), reason: event.job.reason });
    case 'orphaned':
      return plain('warn', `lost by worker ${event.worker}: ${event.error.message}`, { error: event.error });
    case 'released':
      return plain('info', 'released', took(event));
    case 'discarded':
      return plain('warn', `outcome discarded (${event.outcome}): the worker no longer held the job`, {
        outcome: event.outcome,
      });
    case 'logged':
      return plain(event.level, event.message, event.fields ? { fields: redact(event.fields) } : {});
    case 'stepped':
      return plain('debug', `${event.kind} ${event.step} recorded`, { step: event.step, kind: event.kind });
    case 'progressed':
      return plain(
        'debug',
        `${Math.round(event.progress.fraction * 100)} %${event.progress.message === null ? '' : ` ${event.progress.message}`}`,
      );
    case 'prioritized':
      return plain('debug', event.type, { priority: event.job.priority });
    case 'deleted':
    case 'enqueued':
    case 'unblocked':
    case 'requeued':
    case 'edited':
    case 'scheduled':
      return plain('debug', event.type, { queue: event.job.queue });
    case 'skipped':
      return plain(event.reason === 'failed' ? 'error' : event.reason === 'missed' ? 'warn' : 'info', skippedText(event), {
        schedule: event.schedule,
        reason: event.reason,
        count: event.count,
        ...(event.error ? { error: event.error } : {}),
      });
    case 'started':
      return plain(logInput ? 'info' : 'debug', 'started');
    case 'workerStarted':
      return plain('info', 'worker started');
    case 'workerStopping':
      return plain('info', 'worker stopping: no more jobs are claimed');
    case 'workerStopped':
      return plain('info', 'worker stopped');
    case 'storeFailing':
      return plain('error', `the store is failing, retrying: ${brief(event.error)}`, { error: event.error });
    case 'storeRecovered':
      return plain('info', 'the store has recovered');
  }
}

function skippedText({ schedule, reason, count, error }: Extract<Event, { type: 'skipped' }>): string {
  if (reason === 'failed') return `schedule ${schedule}: the input of an occurrence cannot be computed${error ? `: ${brief(error)}` : ''}`;
  const why = reason === 'missed' ? 'passed while no scheduler was running' : 'came while the previous job was unfinished';
  return `schedule ${schedule}: ${count >= 1_000 ? '1000 or more occurrences' : plural(count, 'occurrence')} ${why} and ${count === 1 ? 'is' : 'are'} skipped`;
}

/** The duration of the attempt so far, in milliseconds. */
function took(event: Event & { job: { lastAttemptedAt: number | null } }): { duration?: number } {
  const { lastAttemptedAt } = event.job;
  return lastAttemptedAt === null ? {} : { duration: Math.max(0, event.at - lastAttemptedAt) };
}

function brief({ name, message }: { readonly name: string; readonly message: string }): string {
  return `${name}: ${message}`;
}

function iso(at: number): string {
  return new Date(at).toISOString();
}

const levelMarks: Record<string, Mark> = { debug: 'dim', warn: 'yellow', error: 'red' };

/** `14:03:27.120 info   mail.welcome              5e8a1c42f7d0 #2   45ms  successful` */
export function prettyLine(line: Readonly<Record<string, unknown>>, paint: Paint): string {
  const { time, level, worker, task, job, attempt, duration, message, input, fields } = line;
  const at = new Date(String(time));
  const two = (value: number, digits = 2) => String(value).padStart(digits, '0');
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${two(at.getMilliseconds(), 3)}`;
  const who =
    task === undefined
      ? padEnd(shorten(clean(String(worker ?? '')), 43, 'middle'), 43)
      : `${padEnd(shorten(clean(String(task)), 26, 'middle'), 26)} ${padEnd(clean(String(job)).slice(-12), 12)} ${padEnd(attempt === undefined ? '' : `#${attempt}`, 3)}`;
  const length = (typeof duration === 'number' ? shortDuration(duration) : '').padStart(6);
  const rest = [input === undefined ? undefined : { input }, fields as object | undefined]
    .filter((more) => more !== undefined)
    .map((more) => ` ${paint('dim', clean(JSON.stringify(more)))}`);
  const name = String(level);
  return `${paint('dim', clock)} ${paint(levelMarks[name], padEnd(name, 5))} ${who} ${length}  ${paint(levelMarks[name] === 'dim' ? 'dim' : undefined, clean(String(message)))}${rest.join('')}`;
}
