/** What each key does, as a table: state and keys in, what became of the state out. */
import { describe, expect, test } from 'vitest';
import { bindings, bindingsOf, press } from '../../cli/dash/keys.ts';
import { reduce } from '../../cli/dash/reduce.ts';
import type { Effect, State } from '../../cli/dash/state.ts';
import { viewNames } from '../../cli/dash/state.ts';
import { meanings } from '../../cli/dash/views/help.ts';
import { screen } from '../../cli/dash/views/screen.ts';
import { jobNamed, now, sample } from './sample.ts';

function pressed(keys: readonly string[], change: Partial<State> = {}): State {
  return keys.reduce(press, { ...sample(), ...change });
}

describe('where keys lead', () => {
  const table: [keys: string[], expected: Partial<State>][] = [
    [['2'], { view: 'jobs' }],
    [['tab', 'tab'], { view: 'retries' }],
    [['shift-tab'], { view: 'events' }],
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

  test('a queue that is opened shows its jobs, and esc leads back', () => {
    expect(pressed(['down', 'return']).filter.queue).toBe('mail');
    expect(pressed(['down', 'return', 'escape']).view).toBe('overview');
  });

  test('the cursor stays among the rows', () => {
    expect(pressed(['2', 'up', 'up']).rowsDown.jobs).toBe(0);
    expect(pressed(['2', 'end']).rowsDown.jobs).toBe(4);
    expect(pressed(['2', ...Array<string>(9).fill('down')]).rowsDown.jobs).toBe(4);
    expect(pressed(['2', 'end', 'home']).rowsDown.jobs).toBe(0);
  });

  test('beyond the last row is the next page, and before the first the one before', () => {
    const state = sample();
    const more = { ...state, data: { ...state.data, jobs: { ...state.data.jobs, cursor: 'c1' } } };
    const next = ['2', 'end', 'down'].reduce(press, more);
    expect(next).toMatchObject({ pages: [null, 'c1'], rowsDown: { jobs: 0 } });
    expect(press(next, 'up').pages).toEqual([null]);
  });
});

test('the cursor stays on its job when others come before it', () => {
  const state = pressed(['2', 'down']);
  const items = [jobNamed(9), jobNamed(8), ...state.data.jobs.items];
  const read = (more: typeof items) => reduce(state, { type: 'read', now: state.now, data: { jobs: { ...state.data.jobs, items: more } } });
  expect(read(items).rowsDown.jobs).toBe(3);
  // What has gone leaves its place to what follows.
  expect(read([jobNamed(0), jobNamed(2)]).rowsDown.jobs).toBe(1);
  expect(read([]).rowsDown.jobs).toBe(0);
});

test('that the system cannot be read is told until it can, whatever is told or pressed meanwhile', () => {
  const unread = reduce(sample(), { type: 'unread', text: 'the file jobs.db has gone' });
  const later = ['2', 'j', 'j', 'j', 'j', '1'].reduce(press, reduce(unread, { type: 'told', kind: 'done', text: 'paused queue mail' }));
  const lines = (state: State) => screen(state).map(({ spans }) => spans.map(({ text }) => text).join(''));
  expect(lines(later).join('\n')).toMatch(/✗ cannot be read since 01:12:40: the file jobs\.db has gone/);
  expect(reduce(later, { type: 'unread', text: 'the file jobs.db has gone' })).toBe(later);
  const read = reduce(later, { type: 'read', now: now + 60_000, data: {} });
  expect(lines(read).join('\n')).not.toMatch(/cannot be read/);
});

describe('what keys ask for', () => {
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
    // Before time began, and yet to come.
    [['R', '2h', 'return'], []],
    [['R', '2026-03-29T02:00:00Z', 'return'], []],
    [['P'], [{ kind: 'write', write: { kind: 'pauseQueue', name: 'default' } }]],
    [['4', 'P'], [{ kind: 'write', write: { kind: 'pauseSchedule', name: 'digest' } }]],
    [['4', 'T'], [{ kind: 'write', write: { kind: 'runSchedule', name: 'digest' } }]],
    [['2', 'T'], [{ kind: 'write', write: { kind: 'jobs', verb: 'retry', which: ['job-0'] } }]],
    [['2', 'C'], [{ kind: 'write', write: { kind: 'jobs', verb: 'cancel', which: ['job-0'] } }]],
    [['2', 'x', 'x', 'C'], []],
    [['2', 'x', 'x', 'C', 'n'], []],
    [['2', 'x', 'x', 'C', 'y'], [{ kind: 'write', write: { kind: 'jobs', verb: 'cancel', which: ['job-0', 'job-1'] } }]],
    [['2', 'D'], [{ kind: 'write', write: { kind: 'jobs', verb: 'delete', which: ['job-0'] } }]],
    [['2', 'x', 'x', 'D'], []],
    [['2', 'P', '-', '5', 'return'], [{ kind: 'write', write: { kind: 'jobs', verb: 'prioritize', which: ['job-0'], priority: -5 } }]],
    [['2', 'P', '1', '0', '1', 'return'], []],
    [['2', 'x', 'x', 'P', '7', 'return'], []],
    [
      ['2', 'x', 'x', 'P', '7', 'return', 'y'],
      [{ kind: 'write', write: { kind: 'jobs', verb: 'prioritize', which: ['job-0', 'job-1'], priority: 7 } }],
    ],
    [['q'], [{ kind: 'quit' }]],
    [['ctrl-c'], [{ kind: 'quit' }]],
    [['ctrl-z'], [{ kind: 'suspend' }]],
  ];
  test.each(table)('%j', (keys, effects) => {
    expect(pressed(keys).effects).toEqual(effects);
  });

  test('many jobs are asked for before, by their number or their filter', () => {
    expect(pressed(['2', 'x', 'x', 'T']).confirm?.question).toBe('Retry 2 jobs?');
    expect(pressed(['2', '/', 'queue:mail', 'return', 'a', 'C']).confirm?.question).toBe(
      'Cancel every unfinished job that matches queue:mail?',
    );
    expect(pressed(['2', 'a', 'T']).confirm?.question).toBe('Retry every failed or cancelled job there is?');
    expect(pressed(['2', 'x', 'x', 'P', '7', 'return']).confirm?.question).toBe('Set the priority of 2 jobs to 7?');
    expect(pressed(['2', 'a', 'P', '7', 'return']).confirm?.question).toBe('Set the priority of every waiting job there is to 7?');
    expect(pressed(['2', '/', 'tag:x', 'return', 'a', 'D']).confirm?.question).toBe(
      'Delete every finished or waiting job that matches tag:x?',
    );
  });

  test('what was selected in one view is not changed from another', () => {
    expect(pressed(['2', 'x', '3', 'C']).effects).toMatchObject([{ write: { which: ['job-0'] } }]);
    expect(pressed(['2', 'end', 'x', '3', 'C']).effects).toMatchObject([{ write: { which: ['job-0'] } }]);
    expect(pressed(['2', 'end', 'x', 'tab', 'C']).effects).toMatchObject([{ write: { which: ['job-0'] } }]);
    // On the way to one of them and back they stay.
    expect(pressed(['2', 'end', 'x', 'return', 'escape', 'C']).effects).toMatchObject([{ write: { which: ['job-4'] } }]);
    expect(pressed(['2', 'end', 'x', '2', 'C']).effects).toMatchObject([{ write: { which: ['job-4'] } }]);
  });

  test('a priority is for the jobs that were chosen when it was asked for, wherever they are now', () => {
    const asked = pressed(['2', 'P', '9']);
    const items = [jobNamed(9), ...asked.data.jobs.items.slice(1)];
    const moved = reduce(asked, { type: 'read', now: asked.now, data: { jobs: { ...asked.data.jobs, items } } });
    expect(press(moved, 'return').effects).toMatchObject([{ write: { which: ['job-0'], priority: 9 } }]);
  });

  test('an input is checked as it is typed, and enqueued only if it is accepted', () => {
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

  test('who may only look is told so', () => {
    const state = pressed(['2', 'C'], { write: false });
    expect(state.effects).toEqual([]);
    expect(state.notice).toMatchObject({ kind: 'error', text: 'this only looks; start it with --write to change anything' });
  });

  test('while time is turned back, esc stops it, and nothing else is moved or changed', () => {
    const busy = { busy: 'rewinding' };
    expect(pressed(['escape'], busy).effects).toEqual([{ kind: 'interrupt' }]);
    for (const key of ['space', ']', 'n', 'R', 'E', 'P']) expect(pressed([key], busy), key).toMatchObject({ effects: [], prompt: null });
    expect(pressed(['2'], busy).view).toBe('jobs');
    expect(pressed(['q'], busy).effects).toEqual([{ kind: 'quit' }]);
  });

  test('keys of the clock mean nothing where time is real', () => {
    for (const key of ['space', 'n', 'f', '+', ']', 'g']) expect(pressed([key], { clock: null }).effects, key).toEqual([]);
  });

  test('what is typed is text, whatever it means elsewhere', () => {
    expect(pressed(['2', '/', 'q', 'C', 'space', '1', 'return']).filter.text).toBe('qC 1');
    expect(pressed(['2', '/', 'a', 'b', 'left', 'backspace', 'X', 'return']).filter.text).toBe('Xb');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(pressed(['2', '/', '\u001b]0;title\u0007evil\u202e', 'return']).filter.text).not.toMatch(/[\u0007\u001b\u202e]/);
  });

  test('what is pasted is text where one types, and nothing anywhere else', () => {
    const paste = (text: string) => `\u001b[200~${text}`;
    for (const key of ['q', 'C', 'D', 'return', 'escape', '2']) {
      expect(pressed(['2', paste(key)]), key).toEqual(pressed(['2']));
      expect(pressed(['2', 'x', 'x', 'C', paste(key)]).confirm, key).not.toBeNull();
      expect(pressed(['2', '/', paste(key)]).prompt?.text, key).toBe(key);
    }
    expect(pressed(['2', '/', 'a', 'alt-D', 'alt-\r', 'return']).filter.text).toBe('a');
  });

  test('whatever is filtered by is told beside the list', () => {
    const text = (state: State) =>
      screen(state)
        .map(({ spans }) => spans.map((one) => one.text).join(''))
        .join('\n');
    expect(text(pressed(['2']))).toMatch(/no filter/);
    expect(text(pressed(['2', 'right']))).toMatch(/\/ status:ready/);
  });

  test('a filter is read word by word', () => {
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

describe('the table', () => {
  test('no key has two meanings in a view', () => {
    for (const view of [...viewNames, 'job'] as const) {
      const keys = bindingsOf({ ...sample(), view }).flatMap((binding) => binding.keys);
      expect(keys, view).toEqual([...new Set(keys)]);
    }
  });

  test('what writes is upper-case, and nothing else is', () => {
    for (const { keys, only } of bindings) {
      for (const key of keys) expect(/^[A-Z]$/.test(key) && key !== 'G', key).toBe(only === 'write' || key === 'R');
    }
  });

  test('on 80 columns no key is explained by half a sentence', () => {
    for (const view of [...viewNames, 'job'] as const) {
      for (const { help } of bindingsOf({ ...sample(), view })) expect(help.length, help).toBeLessThanOrEqual(32);
    }
  });

  test('every view says what its words mean', () => {
    for (const view of [...viewNames, 'job'] as const) expect(meanings[view].length, view).toBeGreaterThan(1);
  });

  test('a job that nobody chose is not changed', () => {
    expect(pressed(['5', 'C']).notice?.kind).toBe('error');
    expect(jobNamed(3).id).toBe('job-3');
  });
});
