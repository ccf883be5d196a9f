/** Each key as a table: state and keys in, changed state out. */
import { describe, expect, test } from 'vitest';
import { bindings, bindingsOf, offered, press } from '../../cli/dash/keys.ts';
import { reduce } from '../../cli/dash/reduce.ts';
import type { Effect, State, Write } from '../../cli/dash/state.ts';
import { emptyData, type JobItem, viewNames } from '../../cli/dash/state.ts';
import { meanings } from '../../cli/dash/views/help.ts';
import { screen } from '../../cli/dash/views/screen.ts';
import { jobNamed, now, queueNamed, sample } from './sample.ts';

function pressed(keys: readonly string[], change: Partial<State> = {}): State {
  return keys.reduce(press, { ...sample(), ...change });
}

describe('navigation', () => {
  const table: [keys: string[], expected: Partial<State>][] = [
    [['2'], { view: 'jobs' }],
    [['tab', 'tab'], { view: 'retries' }],
    [['shift-tab'], { view: 'outbox' }],
    [['7', 'down', 'return'], { view: 'mail', jobId: 'job-1', back: ['outbox'] }],
    [['7', 'return', 'escape'], { view: 'outbox' }],
    [['4', 'escape'], { view: 'schedules' }],
    [['2', 'return', 'return'], { view: 'job', stacks: true }],
    [['2', 'return', 'return', 'return'], { view: 'job', stacks: false }],
    [['2', 'return'], { view: 'job', jobId: 'job-0', back: ['jobs'] }],
    [['2', 'down', 'return', 'escape'], { view: 'jobs' }],
    [['return'], { view: 'jobs', back: ['overview'] }],
    [['?'], { help: true }],
    [['?', '?'], { help: false }],
    [['?', '2'], { help: false, view: 'jobs' }],
    [['2', 's'], { sort: 'due' }],
    [['2', 'a'], { all: true }],
    [['2', 'a', 'escape'], { all: false }],
  ];
  test.each(table)('%j', (keys, expected) => {
    expect(pressed(keys)).toMatchObject(expected);
  });

  test('opening a queue shows its jobs, and esc goes back', () => {
    expect(pressed(['down', 'return']).filter.queue).toBe('mail');
    expect(pressed(['down', 'return', 'escape']).view).toBe('overview');
  });

  test('the cursor stays within the rows', () => {
    expect(pressed(['2', 'up', 'up']).rowsDown.jobs).toBe(0);
    expect(pressed(['2', 'end']).rowsDown.jobs).toBe(4);
    expect(pressed(['2', ...Array<string>(9).fill('down')]).rowsDown.jobs).toBe(4);
    expect(pressed(['2', 'end', 'home']).rowsDown.jobs).toBe(0);
  });

  test('moving past the last row shows the next page, and before the first row the previous page', () => {
    const state = sample();
    const more = { ...state, data: { ...state.data, jobs: { ...state.data.jobs, cursor: 'c1' } } };
    const next = ['2', 'end', 'down'].reduce(press, more);
    expect(next).toMatchObject({ pages: [null, 'c1'], rowsDown: { jobs: 0 } });
    expect(press(next, 'up').pages).toEqual([null]);
  });
});

test('the cursor stays on its job when jobs are inserted before it', () => {
  const state = pressed(['2', 'down']);
  const items = [jobNamed(9), jobNamed(8), ...state.data.jobs.items];
  const read = (more: typeof items) => reduce(state, { type: 'read', now: state.now, data: { jobs: { ...state.data.jobs, items: more } } });
  expect(read(items).rowsDown.jobs).toBe(3);
  // If its job is gone, the cursor moves to the next one.
  expect(read([jobNamed(0), jobNamed(2)]).rowsDown.jobs).toBe(1);
  expect(read([]).rowsDown.jobs).toBe(0);
});

test('a read error stays visible until a read succeeds', () => {
  const unread = reduce(sample(), { type: 'unread', text: 'the file jobs.db was deleted' });
  const later = ['2', 'j', 'j', 'j', 'j', '1'].reduce(press, reduce(unread, { type: 'notified', kind: 'done', text: 'paused queue mail' }));
  const lines = (state: State) => screen(state).map(({ spans }) => spans.map(({ text }) => text).join(''));
  expect(lines(later).join('\n')).toMatch(/✗ no data since 01:12:40: the file jobs\.db was deleted/);
  expect(reduce(later, { type: 'unread', text: 'the file jobs.db was deleted' })).toBe(later);
  const read = reduce(later, { type: 'read', now: now + 60_000, data: {} });
  expect(lines(read).join('\n')).not.toMatch(/cannot be read/);
});

describe('actions', () => {
  const table: [keys: string[], effects: Effect[]][] = [
    [['space'], [{ kind: 'clock', order: { kind: 'play' } }]],
    [['+'], [{ kind: 'clock', order: { kind: 'speed', speed: 600 } }]],
    [['-'], [{ kind: 'clock', order: { kind: 'speed', speed: 10 } }]],
    [['n'], [{ kind: 'clock', order: { kind: 'event' } }]],
    [['f'], [{ kind: 'clock', order: { kind: 'failure' } }]],
    [['.'], [{ kind: 'clock', order: { kind: 'skip', ms: 60_000 } }]],
    [[']'], [{ kind: 'clock', order: { kind: 'skip', ms: 3_600_000 } }]],
    [['}'], [{ kind: 'clock', order: { kind: 'skip', ms: 86_400_000 } }]],
    [['g', '+', '9', '0', 'm', 'return'], [{ kind: 'clock', order: { kind: 'skip', ms: 5_400_000 } }]],
    [['g', '0', '9', ':', '0', '0', 'return'], [{ kind: 'clock', order: { kind: 'until', at: Date.parse('2026-03-29T09:00:00Z') } }]],
    [['g', '2026-03-30', 'return'], [{ kind: 'clock', order: { kind: 'until', at: Date.parse('2026-03-30T00:00:00Z') } }]],
    [['R', '3', '0', 'm', 'return'], [{ kind: 'rewind', at: now - 1_800_000 }]],
    [['R', '-30m', 'return'], [{ kind: 'rewind', at: now - 1_800_000 }]],
    [['R', '01:00', 'return'], [{ kind: 'rewind', at: Date.parse('2026-03-29T01:00:00Z') }]],
    [['R', '2026-03-29T00:30:00Z', 'return'], [{ kind: 'rewind', at: Date.parse('2026-03-29T00:30:00Z') }]],
    // Before the start of the simulation, and in the future.
    [['R', '2h', 'return'], []],
    [['R', '2026-03-29T02:00:00Z', 'return'], []],
    [['P'], []],
    [['P', 'y'], [{ kind: 'write', write: { kind: 'pauseQueue', name: 'default' } }]],
    [['4', 'P'], [{ kind: 'write', write: { kind: 'pauseSchedule', name: 'digest' } }]],
    [['4', 'T'], [{ kind: 'write', write: { kind: 'runSchedule', name: 'digest' } }]],
    [['2', 'T'], [{ kind: 'write', write: { kind: 'jobs', verb: 'retry', which: ['job-0'] } }]],
    [['2', 'C'], [{ kind: 'write', write: { kind: 'jobs', verb: 'cancel', which: ['job-0'] } }]],
    [['2', 'x', 'x', 'C'], []],
    [['2', 'x', 'x', 'C', 'n'], []],
    [['2', 'x', 'x', 'C', 'y'], [{ kind: 'write', write: { kind: 'jobs', verb: 'cancel', which: ['job-0', 'job-1'] } }]],
    [['7', 'T'], []],
    [['7', 'T', 'y'], [{ kind: 'write', write: { kind: 'sendMail', job: 'job-0', state: 'held', to: 'ada@example.org' } }]],
    [['7', 'down', 'T'], [{ kind: 'write', write: { kind: 'sendMail', job: 'job-1', state: 'queued', to: 'ada@example.org' } }]],
    [['7', 'D'], []],
    [['7', 'D', 'y'], [{ kind: 'write', write: { kind: 'dropMail', job: 'job-0', state: 'held', to: 'ada@example.org' } }]],
    [['7', 'o'], [{ kind: 'saveMail', job: 'job-0' }]],
    [['2', 'D'], []],
    [['2', 'D', 'y'], [{ kind: 'write', write: { kind: 'jobs', verb: 'delete', which: ['job-0'] } }]],
    [['2', 'x', 'x', 'D'], []],
    [['2', 'U', '-', '5', 'return'], [{ kind: 'write', write: { kind: 'jobs', verb: 'prioritize', which: ['job-0'], priority: -5 } }]],
    [['2', 'U', '1', '0', '1', 'return'], []],
    [['2', 'x', 'x', 'U', '7', 'return'], []],
    [
      ['2', 'x', 'x', 'U', '7', 'return', 'y'],
      [{ kind: 'write', write: { kind: 'jobs', verb: 'prioritize', which: ['job-0', 'job-1'], priority: 7 } }],
    ],
    [['q'], [{ kind: 'quit' }]],
    [['ctrl-c'], [{ kind: 'quit' }]],
    [['ctrl-z'], [{ kind: 'suspend' }]],
  ];
  test.each(table)('%j', (keys, effects) => {
    expect(pressed(keys).effects).toEqual(effects);
  });

  test('changes of several jobs require confirmation, which shows their number or filter', () => {
    expect(pressed(['2', 'x', 'x', 'T']).confirm?.question).toBe('Retry 2 jobs?');
    expect(pressed(['2', 'x', 'x', 'U', '7', 'return']).confirm?.question).toBe('Set the priority of 2 jobs to 7?');
    const counted = (keys: string[], jobs: number, more = false) => {
      const asked = pressed(keys);
      const write = asked.confirm?.write as Write;
      expect(asked.effects).toEqual([{ kind: 'count', write }]);
      expect(asked.confirm?.question).toMatch(/\? Counting …$/);
      // Confirming is not possible before the count is known.
      expect(press(asked, 'y')).toBe(asked);
      expect(press(asked, 'n').confirm).toBeNull();
      expect(reduce(press(asked, 'n'), { type: 'counted', write, count: { jobs, more } }).confirm).toBeNull();
      const known = reduce({ ...asked, effects: [] }, { type: 'counted', write, count: { jobs, more } });
      expect(press(known, 'y').effects).toEqual(jobs === 0 ? [] : [{ kind: 'write', write }]);
      return known.confirm?.question ?? known.notice?.text;
    };
    expect(counted(['2', '/', 'queue:mail', 'return', 'a', 'C'], 172)).toBe('Cancel 172 unfinished jobs matching queue:mail?');
    expect(counted(['2', '/', 'tag:x', 'return', 'a', 'D'], 1)).toBe('Delete 1 finished or waiting job matching tag:x?');
    expect(counted(['2', 'a', 'T'], 3)).toBe('Retry 3 failed or cancelled jobs?');
    expect(counted(['2', 'a', 'U', '7', 'return'], 100_000, true)).toBe('Set the priority of more than 100,000 waiting jobs to 7?');
    expect(counted(['2', 'a', 'T'], 0)).toBe('no matching job can be changed this way');
  });

  test('irreversible changes require confirmation, even for one job', () => {
    const running = {
      ...sample(),
      data: { ...sample().data, jobs: { items: [jobNamed(0, { status: 'running' })], cursor: null, note: null } },
    };
    expect(['2', 'C'].reduce(press, running).confirm?.question).toBe('Cancel mail.welcome …job-0, which is running?');
    expect(pressed(['2', 'C']).confirm).toBeNull();
    expect(pressed(['2', 'D']).confirm?.question).toBe('Delete mail.welcome …job-0?');
    expect(pressed(['P']).confirm?.question).toBe('Pause queue default?');
    const paused = { data: { ...sample().data, queues: [queueNamed('default', { paused: true })] } };
    expect(pressed(['P'], paused).effects).toEqual([{ kind: 'write', write: { kind: 'resumeQueue', name: 'default' } }]);
    // An event identifies the job, but not its state.
    const events = [{ seq: 1, at: now, type: 'started', task: 'a', job: 'job-77', worker: '', text: '' }];
    expect(pressed(['6', 'C'], { data: { ...sample().data, events } }).confirm?.question).toBe('Cancel job …job-77?');
  });

  test('a selection in one view is not changed from another', () => {
    expect(pressed(['2', 'x', '3', 'C']).effects).toMatchObject([{ write: { which: ['job-0'] } }]);
    expect(pressed(['2', 'end', 'x', '3', 'C']).effects).toMatchObject([{ write: { which: ['job-0'] } }]);
    expect(pressed(['2', 'end', 'x', 'tab', 'C']).effects).toMatchObject([{ write: { which: ['job-0'] } }]);
    // The selection survives opening one of them and going back.
    expect(pressed(['2', 'end', 'x', 'return', 'escape', 'C']).effects).toMatchObject([{ write: { which: ['job-4'] } }]);
    expect(pressed(['2', 'end', 'x', '2', 'C']).effects).toMatchObject([{ write: { which: ['job-4'] } }]);
  });

  test('a priority applies to the jobs selected when the prompt opened', () => {
    const asked = pressed(['2', 'U', '9']);
    const items = [jobNamed(9), ...asked.data.jobs.items.slice(1)];
    const moved = reduce(asked, { type: 'read', now: asked.now, data: { jobs: { ...asked.data.jobs, items } } });
    expect(press(moved, 'return').effects).toMatchObject([{ write: { which: ['job-0'], priority: 9 } }]);
  });

  test('an input is checked while it is typed, and enqueued only if it is valid', () => {
    const typed = pressed(['E', 'm', 'a', 'i', 'return', '{', '}']);
    expect(typed.effects.at(-1)).toEqual({ kind: 'check', task: 'mail.welcome', input: '{}' });
    const refused: State = {
      ...typed,
      effects: [],
      prompt: { ...(typed.prompt as NonNullable<State['prompt']>), verdict: { ok: false, text: 'no' } },
    };
    expect(press(refused, 'return')).toMatchObject({ prompt: { text: '{}' }, effects: [] });
    const accepted = { ...refused, prompt: { ...(refused.prompt as NonNullable<State['prompt']>), verdict: null } };
    expect(press(accepted, 'return').effects).toEqual([{ kind: 'write', write: { kind: 'enqueue', task: 'mail.welcome', input: '{}' } }]);
  });

  test('read-only mode explains why keys do nothing', () => {
    const state = pressed(['2', 'C'], { write: false });
    expect(state.effects).toEqual([]);
    expect(state.notice).toMatchObject({ kind: 'error', text: 'read-only; start with --write to make changes' });
  });

  test('during a rewind, esc stops it and other actions are ignored', () => {
    const busy = { busy: 'rewinding' };
    expect(pressed(['escape'], busy).effects).toEqual([{ kind: 'interrupt' }]);
    for (const key of ['space', ']', 'n', 'R', 'E', 'P']) expect(pressed([key], busy), key).toMatchObject({ effects: [], prompt: null });
    expect(pressed(['2'], busy).view).toBe('jobs');
    expect(pressed(['q'], busy).effects).toEqual([{ kind: 'quit' }]);
  });

  test('clock keys do nothing in real time', () => {
    for (const key of ['space', 'n', 'f', '+', ']', 'g']) expect(pressed([key], { clock: null }).effects, key).toEqual([]);
  });

  test('typed keys are text in a prompt', () => {
    expect(pressed(['2', '/', 'q', 'C', 'space', '1', 'return']).filter.text).toBe('qC 1');
    expect(pressed(['2', '/', 'a', 'b', 'left', 'backspace', 'X', 'return']).filter.text).toBe('Xb');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(pressed(['2', '/', '\u001b]0;title\u0007evil\u202e', 'return']).filter.text).not.toMatch(/[\u0007\u001b\u202e]/);
  });

  test('pasted text is inserted in a prompt, and ignored elsewhere', () => {
    const paste = (text: string) => `\u001b[200~${text}`;
    for (const key of ['q', 'C', 'D', 'return', 'escape', '2']) {
      expect(pressed(['2', paste(key)]), key).toEqual(pressed(['2']));
      expect(pressed(['2', 'x', 'x', 'C', paste(key)]).confirm, key).not.toBeNull();
      expect(pressed(['2', '/', paste(key)]).prompt?.text, key).toBe(key);
    }
    expect(pressed(['2', '/', 'a', 'alt-D', 'alt-\r', 'return']).filter.text).toBe('a');
  });

  test('the list shows every active filter', () => {
    const text = (state: State) =>
      screen(state)
        .map(({ spans }) => spans.map((one) => one.text).join(''))
        .join('\n');
    expect(text(pressed(['2']))).toMatch(/no filter/);
    expect(text(pressed(['2', 'right']))).toMatch(/\/ status:ready/);
  });

  test('filters are parsed word by word', () => {
    expect(pressed(['/', 'status:failed queue:mail task:x time out', 'return']).filter).toEqual({
      status: 'failed',
      queue: 'mail',
      task: 'x',
      tag: null,
      schedule: null,
      text: 'time out',
    });
  });
});

describe('the key table', () => {
  test('assigns only one meaning to each key in a view', () => {
    for (const view of [...viewNames, 'job', 'mail'] as const) {
      const keys = bindingsOf({ ...sample(), view }).flatMap((binding) => binding.keys);
      expect(keys, view).toEqual([...new Set(keys)]);
    }
  });

  test('assigns the same meaning to a key in all views', () => {
    for (const { keys, hint } of bindings) {
      for (const key of keys) {
        const hints = bindings.filter((other) => other.keys.includes(key)).map((other) => other.hint);
        expect(new Set(hints), key).toEqual(new Set([hint]));
      }
    }
  });

  test('offers only applicable keys in the footer', () => {
    const hints = (state: State) => offered(state).flatMap(({ hint }) => hint ?? []);
    const empty = { ...sample(), data: { ...emptyData, tasks: [] } };
    for (const view of viewNames)
      for (const hint of ['open', 'select', 'run now', 'cancel', 'priority', 'delete', 'pause', 'enqueue'])
        expect(hints({ ...empty, view }), `${view} ${hint}`).not.toContain(hint);
    const job = (status: JobItem['status']) => {
      const jobs = { items: [jobNamed(0, { status })], cursor: null, note: null };
      return hints({ ...sample(), view: 'jobs', data: { ...sample().data, jobs } }).filter((hint) =>
        ['run now', 'cancel', 'priority', 'delete'].includes(hint),
      );
    };
    expect(job('successful')).toEqual(['delete']);
    expect(job('running')).toEqual(['cancel']);
    expect(job('failed')).toEqual(['run now', 'delete']);
    expect(job('retrying')).toEqual(['run now', 'cancel', 'priority', 'delete']);
    expect(hints({ ...sample(), view: 'job', data: { ...emptyData, job: 'gone' } })).not.toContain('delete');
    expect(hints({ ...sample(), busy: 'going back' })).not.toContain('play');
    expect(hints({ ...sample(), now: sample().clock?.startedAt ?? 0 })).not.toContain('rewind');
  });

  test('uses upper case for all changes, and nothing else', () => {
    for (const { keys, only } of bindings) {
      for (const key of keys) expect(/^[A-Z]$/.test(key), key).toBe(only === 'write' || key === 'R');
    }
  });

  test('keeps descriptions short enough for 80 columns', () => {
    for (const view of [...viewNames, 'job', 'mail'] as const) {
      for (const { help } of bindingsOf({ ...sample(), view })) expect(help.length, help).toBeLessThanOrEqual(32);
    }
  });

  test('explains the terms of every view', () => {
    for (const view of [...viewNames, 'job', 'mail'] as const) expect(meanings[view].length, view).toBeGreaterThan(1);
  });

  test('never changes a job that was not selected', () => {
    expect(pressed(['5', 'C']).notice?.kind).toBe('error');
    expect(jobNamed(3).id).toBe('job-3');
  });
});
