/** A worker's log lines, for programs and people, and the data that is redacted from them. */
import type { Event, Job } from 'escapement';
import { expect, test } from 'vitest';
import { painter } from '../../cli/format.ts';
import { createLog, type LogLevel, prettyLine } from '../../cli/worker/log.ts';
import { redact } from '../../cli/worker/redact.ts';

const at = Date.parse('2026-03-28T12:00:00.250Z');
const job = {
  id: '0199ab3c-7f00-7000-8000-3d5e8a1c42f7',
  task: 'mail.welcome',
  queue: 'default',
  input: '{"userId":"u1","password":"hunter2"}',
  lastAttemptedAt: at - 45,
  reason: null,
} as Job;
const of = { at, job, worker: 'w', attempt: 2 };
const error = { name: 'Error', message: 'line\u0007 is \u009bbusy', stack: 'Error: line is busy' };

function logged(
  events: readonly Event[],
  { level = 'info', logInput = false, isTTY = false }: { level?: LogLevel; logInput?: boolean; isTTY?: boolean } = {},
) {
  let text = '';
  const stdout = {
    isTTY,
    columns: 100,
    write: (more: string) => {
      text += more;
    },
  };
  const log = createLog({ stdout, env: { NO_COLOR: '1' }, now: () => at }, { worker: 'w', level, logInput });
  for (const event of events) log.event(event);
  return text;
}

test('a line is one JSON object without terminal control characters', () => {
  const text = logged([{ type: 'retrying', ...of, error, dueAt: at + 90_000 }]);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  expect(text.endsWith('\n')).toBe(true);
  expect(JSON.parse(text)).toEqual({
    level: 'warn',
    time: '2026-03-28T12:00:00.250Z',
    worker: 'w',
    event: 'retrying',
    task: 'mail.welcome',
    job: job.id,
    attempt: 2,
    duration: 45,
    dueAt: '2026-03-28T12:01:30.250Z',
    error,
    message: 'failed, retrying in 1m30s: Error: line\u0007 is \u009bbusy',
  });
});

test('job input is logged only on request, without its secrets', () => {
  const started: Event = { type: 'started', ...of };
  expect(logged([started])).toBe('');
  expect(JSON.parse(logged([started], { level: 'debug' }))).not.toHaveProperty('input');
  expect(JSON.parse(logged([started], { logInput: true })).input).toEqual({ userId: 'u1', password: '[redacted]' });
  const line: Event = {
    type: 'logged',
    ...of,
    level: 'info',
    message: 'sending',
    fields: { to: 'u1', headers: { Authorization: 'Basic eA==' } },
  };
  expect(JSON.parse(logged([line])).fields).toEqual({ to: 'u1', headers: { Authorization: '[redacted]' } });
});

test('secrets are recognized by many names', () => {
  const secrets = [
    'password',
    'userPassword',
    'passwd',
    'token',
    'access_token',
    'clientSecret',
    'api-key',
    'apiKey',
    'X-API-KEY',
    'authorization',
  ];
  for (const key of [
    ...secrets,
    'Authorisation',
    'set-cookie',
    'credentials',
    'privateKey',
    'sessionId',
    'pin',
    'accessKey',
    'auth',
    'jwt',
    'otp',
    'cardNumber',
  ])
    expect(redact({ [key]: { value: 1 } }), key).toEqual({ [key]: '[redacted]' });
  const plain = { compass: 1, author: 'a', key: 'k', pinned: true, note: 'the token', list: [{ n: 1 }], none: null };
  expect(redact(plain)).toEqual(plain);
  expect(redact(['postgres://u:p7@h/d', 'at https://h/a:b@c'])).toEqual(['postgres://u:[redacted]@h/d', 'at https://h/a:b@c']);
  expect(redact({ header: 'Bearer abc.def', long: 'x'.repeat(3_000) })).toEqual({
    header: '[redacted]',
    long: `${'x'.repeat(2_000)}… (3000 characters)`,
  });
});

test('lines are aligned on a terminal, whatever they contain', () => {
  const lines = logged(
    [
      { type: 'workerStopped', at, worker: 'w' },
      { type: 'successful', ...of },
      { type: 'failed', ...of, job: { ...job, task: '山田.の.とても長い名前のタスクです.welcome' }, error },
    ],
    { isTTY: true },
  );
  expect(lines.replace(/^\d\d:\d\d:/gm, 'HH:MM:')).toBe(
    [
      'HH:MM:00.250 info  w                                                   worker stopped',
      'HH:MM:00.250 info  mail.welcome               3d5e8a1c42f7 #2    45ms  successful',
      'HH:MM:00.250 error 山田.の.とて…です.welcome  3d5e8a1c42f7 #2    45ms  failed permanently: Error: line is busy',
      '',
    ].join('\n'),
  );
  const plain = { time: '2026-03-28T12:00:00.250Z', level: 'warn', worker: 'w', message: 'x\u001b]0;title\u0007y' };
  expect(prettyLine(plain, painter(false))).toMatch(/ {2}xy$/);
});
