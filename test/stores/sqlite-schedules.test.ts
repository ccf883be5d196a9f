/** Schedules in the SQLite store: only due ones are read, and a damaged row does not stop the others. */
import Database from 'better-sqlite3';
import { sqlite } from 'escapement/sqlite';
import { expect, test, vi } from 'vitest';
import { advanceOf, jobMaker, schedule, t0 } from '../../src/testing/conformance/kit.ts';

async function opened() {
  const database = new Database(':memory:');
  const prepared: string[] = [];
  const prepare = database.prepare.bind(database);
  database.prepare = ((sql: string) => {
    prepared.push(sql);
    return prepare(sql);
  }) as typeof prepare;
  const store = await sqlite({ database }).open();
  await store.migrate();
  return { database, store, prepared };
}

test('only due schedules are read', async () => {
  const { database, store, prepared } = await opened();
  for (let i = 0; i < 5_000; i++) {
    const at = t0 + 1_000 + i;
    const overlap = i % 3 === 0 ? ('skip' as const) : ('allow' as const);
    await store.saveSchedule(schedule({ name: `s${i}`, nextAt: at, occurrenceAt: at, computed: i % 5 === 0, overlap }), { expect: null });
  }
  // The statements of a scheduler step, captured when the store prepares them.
  const due = () => store.dueSchedules({ now: t0 + 1_002, limit: 10, computes: ['s0'] });
  const job = jobMaker()({ schedule: 's4999', scheduledAt: t0 + 5_999 });
  await store.advanceSchedules([advanceOf({ name: 's4999', jobs: [job] }, { heldAt: t0 + 5_999 })], { now: t0 });
  await due();
  database.exec('DELETE FROM escapement_jobs; UPDATE escapement_schedules SET held_at = NULL');
  const steps = prepared.filter(
    (sql) => sql.startsWith('SELECT') && /next_at|held_at IS NOT NULL|schedule = /.test(sql) && !/ORDER BY name$/.test(sql),
  );
  const asked = steps.filter((sql) => /WHERE/.test(sql) && !/WHERE (name|source)/.test(sql));
  expect(asked).toHaveLength(6);
  for (const analysed of [false, true]) {
    if (analysed) database.exec('ANALYZE');
    for (const sql of asked) {
      const plan = database
        .prepare<unknown[], { detail: string }>(`EXPLAIN QUERY PLAN ${sql}`)
        .all(...(sql.match(/\?/g) ?? []).map(() => 1))
        .map(({ detail }) => detail);
      const scans = plan.filter((line) => line.startsWith('SCAN') && !/json_each|CONSTANT ROW|escapement_held_schedules/.test(line));
      expect(scans, sql).toEqual([]);
    }
  }
  const answer = await due();
  expect(answer.due.map(({ row }) => row.name)).toEqual(['s0', 's1', 's2']);
  expect(answer.nextAt).toBe(t0 + 1_003);
});

test('an unreadable row is paused with a warning, and does not affect other schedules', async () => {
  const { database, store } = await opened();
  await store.saveSchedule(schedule({ name: 'damaged' }), { expect: null });
  await store.saveSchedule(schedule({ name: 'sound' }), { expect: null });
  database.prepare("UPDATE escapement_schedules SET row = '{bad' WHERE name = 'damaged'").run();
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const due = async () => (await store.dueSchedules({ now: t0, limit: 1, computes: [] })).due.map(({ row }) => row.name);
  expect(await due()).toEqual([]);
  expect(warned).toHaveBeenCalledWith(
    expect.stringContaining('"damaged"'),
    expect.objectContaining({ code: 'ESCAPEMENT_UNREADABLE_SCHEDULE' }),
  );
  expect(await due()).toEqual(['sound']);
  expect(await store.advanceSchedules([advanceOf({ name: 'sound' })], { now: t0 })).toEqual([[]]);
  expect((await store.listSchedules()).map(({ name }) => name)).toEqual(['sound']);
  expect(warned).toHaveBeenCalledTimes(1);
  // Saving it restores it.
  expect(await store.saveSchedule(schedule({ name: 'damaged' }), { expect: null })).toBe(true);
  expect(await due()).toEqual(['damaged']);
  warned.mockRestore();
});
