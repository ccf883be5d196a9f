/** Instants as typed beside a clock with a time zone. */
import { expect, test } from 'vitest';
import { instantNear } from '../../cli/dash/instants.ts';

const now = Date.parse('2026-03-28T12:00:00Z');

test.each<[text: string, zone: string, side: 'after' | 'before', expected: string | undefined]>([
  ['2026-03-29T04:00:00Z', 'UTC', 'after', '2026-03-29T04:00:00.000Z'],
  ['2026-03-29T04:00:00+02:00', 'Asia/Tokyo', 'before', '2026-03-29T02:00:00.000Z'],
  ['2026-03-29', 'UTC', 'after', '2026-03-29T00:00:00.000Z'],
  ['2026-03-29', 'Europe/Berlin', 'after', '2026-03-28T23:00:00.000Z'],
  ['2026-03-29 09:00', 'Europe/Berlin', 'after', '2026-03-29T07:00:00.000Z'],
  ['2026-03-29T9:00', 'America/New_York', 'after', '2026-03-29T13:00:00.000Z'],
  ['09:00', 'UTC', 'after', '2026-03-29T09:00:00.000Z'],
  ['09:00', 'UTC', 'before', '2026-03-28T09:00:00.000Z'],
  ['15:30:05', 'UTC', 'after', '2026-03-28T15:30:05.000Z'],
  ['15:30', 'UTC', 'before', '2026-03-27T15:30:00.000Z'],
  ['12:00', 'UTC', 'after', '2026-03-29T12:00:00.000Z'],
  ['12:00', 'UTC', 'before', '2026-03-27T12:00:00.000Z'],
  // The day of the change to summer time there.
  ['02:30', 'Europe/Berlin', 'after', '2026-03-29T01:30:00.000Z'],
  ['20:30', 'Asia/Tokyo', 'before', '2026-03-28T11:30:00.000Z'],
  ['25:00', 'UTC', 'after', undefined],
  ['2026-13-01', 'UTC', 'after', undefined],
  ['2026-02-30', 'UTC', 'after', undefined],
  ['2026-02-30 04:00', 'Europe/Berlin', 'before', undefined],
  ['2026-02-30T04:00:00Z', 'UTC', 'before', undefined],
  ['24:61', 'UTC', 'after', undefined],
  ['soon', 'UTC', 'after', undefined],
  ['', 'UTC', 'before', undefined],
])('%s in %s, %s', (text, zone, side, expected) => {
  const at = instantNear(text, { now, zone }, side);
  expect(at === undefined ? undefined : new Date(at).toISOString()).toBe(expected);
});
