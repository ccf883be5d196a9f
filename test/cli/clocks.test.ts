import type { ScheduleInfo } from 'escapement';
import { describe, expect, test } from 'vitest';
import { changeText, clockChange, skippedTime } from '../../cli/clocks.ts';

describe('a day with a clock change', () => {
  test.each([
    ['Europe/Berlin', '2026-03-28T22:59:59Z', undefined],
    ['Europe/Berlin', '2026-03-28T23:00:00Z', 'clocks go forward at 02:00, +1h'],
    ['Europe/Berlin', '2026-03-29T21:59:59Z', 'clocks go forward at 02:00, +1h'],
    ['Europe/Berlin', '2026-03-29T22:00:00Z', undefined],
    ['Europe/Berlin', '2026-10-25T12:00:00Z', 'clocks go back at 03:00, -1h'],
    ['Europe/Berlin', '2026-06-01T12:00:00Z', undefined],
    ['Australia/Lord_Howe', '2026-04-05T00:00:00Z', 'clocks go back at 02:00, -30m'],
    ['Australia/Lord_Howe', '2026-10-04T00:00:00Z', 'clocks go forward at 02:00, +30m'],
    ['Africa/Cairo', '2026-04-23T21:59:59Z', undefined],
    ['Africa/Cairo', '2026-04-23T22:00:00Z', 'clocks go forward at 00:00, +1h'],
    ['Africa/Cairo', '2026-10-29T12:00:00Z', 'clocks go back at 24:00, -1h'],
    ['Africa/Cairo', '2026-10-30T12:00:00Z', undefined],
    // The night before Sunday loses its last hour, so Saturday is short.
    ['America/Nuuk', '2026-03-28T12:00:00Z', 'clocks go forward at 23:00, +1h'],
    ['America/Nuuk', '2026-03-29T12:00:00Z', undefined],
    ['Asia/Kolkata', '2026-03-29T12:00:00Z', undefined],
    ['UTC', '2026-03-29T12:00:00Z', undefined],
  ])('in %s at %s: %s', (zone, at, text) => {
    const change = clockChange(Date.parse(at), zone);
    expect(change && changeText(change)).toBe(text);
  });
});

describe('the local time of an occurrence', () => {
  const cron = (expression: string, timezone: string): ScheduleInfo['trigger'] => ({ kind: 'cron', expression, timezone });
  test.each([
    ['30 2 * * *', 'Europe/Berlin', '2026-03-29T01:00:00Z', '2026-03-29 02:30'],
    ['0 30 2 * * *', 'Europe/Berlin', '2026-03-29T01:00:00Z', '2026-03-29 02:30'],
    ['15-50/20 1,2 * * *', 'Europe/Berlin', '2026-03-29T01:00:00Z', '2026-03-29 02:15'],
    ['30 2 * * *', 'Europe/Berlin', '2026-03-30T00:30:00Z', undefined],
    ['0 3 * * *', 'Europe/Berlin', '2026-03-29T01:00:00Z', undefined],
    ['*/30 2 * * *', 'Europe/Berlin', '2026-03-29T01:00:00Z', undefined],
    ['0 * * * *', 'Europe/Berlin', '2026-03-29T01:00:00Z', undefined],
    ['30 2 * * *', 'Europe/Berlin', '2026-10-25T01:00:00Z', undefined],
    ['15 2 * * *', 'Australia/Lord_Howe', '2026-10-03T15:30:00Z', '2026-10-04 02:15'],
    ['45 2 * * *', 'Australia/Lord_Howe', '2026-10-03T15:45:00Z', undefined],
    ['@daily', 'Africa/Cairo', '2026-04-23T22:00:00Z', '2026-04-24 00:00'],
    ['@hourly', 'Africa/Cairo', '2026-04-23T22:00:00Z', undefined],
    ['30 23 * * *', 'America/Nuuk', '2026-03-29T01:00:00Z', '2026-03-28 23:30'],
    ['30 2 * * *', 'UTC', '2026-03-29T01:00:00Z', undefined],
  ])('%s in %s at %s is %s', (expression, zone, at, text) => {
    const skipped = skippedTime(cron(expression, zone), Date.parse(at));
    expect(skipped && `${skipped.date} ${skipped.time}`).toBe(text);
  });

  test('is found for schedules with several triggers', () => {
    const at = Date.parse('2026-03-29T01:00:00Z');
    const every: ScheduleInfo['trigger'] = { kind: 'every', everyMs: 60_000, anchorAt: 0 };
    expect(skippedTime(every, at)).toBeUndefined();
    const several = { kind: 'any', of: [every, { kind: 'cron', expression: '30 2 * * *', timezone: 'Europe/Berlin' }] } as const;
    expect(skippedTime(several, at)).toEqual({ date: '2026-03-29', time: '02:30' });
  });
});
