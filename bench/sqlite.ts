/**
 * The speed of the engine on SQLite, as ratios to a baseline: the same inserts and updates on the same tables by better-sqlite3 alone,
 * measured in the same run; medians of several rounds. The drain is also compared with the minimum work of any queue: claiming and
 * completing rows of a narrow table. Run: `npm run bench`, or this file. Options: `--rounds N` (3), `--jobs N` (20000).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import { createTasks } from 'escapement';
import { sqlite } from 'escapement/sqlite';

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '3' }, jobs: { type: 'string', default: '20000' } },
});
const rounds = Number(options.rounds);
const jobs = Number(options.jobs);
const folder = mkdtempSync(join(tmpdir(), 'escapement-bench-'));
let files = 0;
const newFile = () => join(folder, `${++files}.db`);
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
type Synchronous = 'FULL' | 'NORMAL';

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** A file with the engine's own tables, and a plain connection to it. */
async function emptyFile(synchronous: Synchronous): Promise<Database.Database> {
  const file = newFile();
  const tasks = createTasks({ backend: sqlite({ file, synchronous }), logger: quiet });
  await tasks.open();
  await tasks.close();
  const db = new Database(file);
  db.pragma(`synchronous = ${synchronous}`);
  return db;
}

const columns =
  `id task queue input enqueued_at run_after tags metadata schedule scheduled_at overrides state priority due_at expires_at attempt max_attempts
  claim lease_until losses started_at last_attempted_at finished_at cancel_requested return_value reason progress`.split(/\s+/);
const insertSql = `INSERT INTO escapement_jobs (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`;
/** The columns that the engine writes. Rows differ only in their ids. */
const rowOf = (i: number) => [
  ...[
    idOf(i),
    'noop',
    'default',
    '{"n":1}',
    1,
    null,
    null,
    null,
    null,
    null,
    null,
    'ready',
    0,
    1,
    null,
    0,
    20,
    0,
    null,
    0,
    null,
    null,
    null,
    null,
    null,
  ],
  ...[null, null],
];
const idOf = (i: number) => `01900000-0000-7000-8000-${String(i).padStart(12, '0')}`;

/** Jobs per second: claim 100 and complete 100 in one transaction, without an engine. */
async function floorDrain(synchronous: Synchronous): Promise<number> {
  const db = await emptyFile(synchronous);
  const insert = db.prepare(insertSql);
  db.transaction(() => {
    for (let i = 0; i < jobs; i++) insert.run(...rowOf(i));
  }).immediate();
  const select = db.prepare(
    "SELECT id FROM escapement_jobs WHERE state = 'ready' AND blocked_by IS NULL AND queue = 'default' AND +due_at <= 5 ORDER BY priority DESC, due_at, id LIMIT 100",
  );
  const claim = db.prepare(
    `UPDATE escapement_jobs SET state = 'running', attempt = attempt + 1, claim = claim + 1, lease_until = 9, started_at = 5,
     last_attempted_at = 5, last_attempt = attempt + 1, last_worker = 'w' WHERE id = ? RETURNING *`,
  );
  const done = db.prepare(
    `UPDATE escapement_jobs SET state = 'successful', lease_until = NULL, finished_at = 6, last_ended_at = 6, last_outcome = 'successful'
     WHERE id = ? AND claim = 1 AND state = 'running'`,
  );
  const startedAt = performance.now();
  let held: string[] = [];
  const step = db.transaction(() => {
    for (const id of held) done.run(id);
    held = select.all().map((row) => (row as { id: string }).id);
    for (const id of held) claim.get(id);
  });
  do step.immediate();
  while (held.length > 0);
  const perSecond = jobs / ((performance.now() - startedAt) / 1_000);
  db.close();
  return perSecond;
}

/** Jobs per second: claim 100 and complete 100 in one transaction, on a table of five columns with one index. */
async function narrowDrain(synchronous: Synchronous): Promise<number> {
  const db = new Database(newFile());
  db.pragma('journal_mode = WAL');
  db.pragma(`synchronous = ${synchronous}`);
  db.exec(`CREATE TABLE jobs (n INTEGER PRIMARY KEY, state INTEGER NOT NULL, input TEXT, lease_until INTEGER, finished_at INTEGER);
    CREATE INDEX ready ON jobs (n) WHERE state = 0`);
  const insert = db.prepare('INSERT INTO jobs (state, input) VALUES (0, ?)');
  db.transaction(() => {
    for (let i = 0; i < jobs; i++) insert.run('{"n":1}');
  }).immediate();
  const select = db.prepare('SELECT n, input FROM jobs WHERE state = 0 ORDER BY n LIMIT 100');
  const claim = db.prepare('UPDATE jobs SET state = 1, lease_until = 9 WHERE n = ?');
  const done = db.prepare('UPDATE jobs SET state = 2, finished_at = 6 WHERE n = ? AND state = 1');
  const startedAt = performance.now();
  let held: number[] = [];
  const step = db.transaction(() => {
    for (const n of held) done.run(n);
    held = select.all().map((row) => (row as { n: number }).n);
    for (const n of held) claim.run(n);
  });
  do step.immediate();
  while (held.length > 0);
  const perSecond = jobs / ((performance.now() - startedAt) / 1_000);
  db.close();
  return perSecond;
}

/** Jobs per second through the whole engine: one worker, concurrency 100. */
async function engineDrain(synchronous: Synchronous): Promise<number> {
  const tasks = createTasks({ backend: sqlite({ file: newFile(), synchronous }), logger: quiet });
  let left = jobs;
  const done = Promise.withResolvers<void>();
  const noop = tasks.define('noop', async (_: { n: number }) => {
    left -= 1;
    if (left === 0) done.resolve();
  });
  for (let i = 0; i < jobs; i += 1_000) await noop.enqueueMany(Array.from({ length: Math.min(1_000, jobs - i) }, () => ({ n: 1 })));
  const worker = tasks.worker({ concurrency: 100 });
  const startedAt = performance.now();
  await worker.start();
  await done.promise;
  await worker.stop();
  const perSecond = jobs / ((performance.now() - startedAt) / 1_000);
  const [queue] = await tasks.queues.list();
  await tasks.close();
  if (queue?.counts.successful !== jobs) throw new Error(`expected ${jobs} successful jobs, got ${queue?.counts.successful}`);
  return perSecond;
}

async function floorEnqueue(synchronous: Synchronous, batch: number, count: number): Promise<number> {
  const db = await emptyFile(synchronous);
  const insert = db.prepare(insertSql);
  const step = db.transaction((from: number) => {
    for (let i = from; i < from + batch; i++) insert.run(...rowOf(i));
  });
  const startedAt = performance.now();
  for (let i = 0; i < count; i += batch) step.immediate(i);
  const perSecond = count / ((performance.now() - startedAt) / 1_000);
  db.close();
  return perSecond;
}

async function engineEnqueue(synchronous: Synchronous, how: 'one' | 'many' | 'together', count: number): Promise<number> {
  const tasks = createTasks({ backend: sqlite({ file: newFile(), synchronous }), logger: quiet });
  const noop = tasks.define('noop', async (_: { n: number }) => {});
  await tasks.open();
  const startedAt = performance.now();
  if (how === 'one') for (let i = 0; i < count; i++) await noop.enqueue({ n: 1 });
  else {
    for (let i = 0; i < count; i += 1_000) {
      if (how === 'many') await noop.enqueueMany(Array.from({ length: 1_000 }, () => ({ n: 1 })));
      else await Promise.all(Array.from({ length: 1_000 }, () => noop.enqueue({ n: 1 })));
    }
  }
  const perSecond = count / ((performance.now() - startedAt) / 1_000);
  await tasks.close();
  return perSecond;
}

async function compare(name: string, target: number, floor: () => Promise<number>, engine: () => Promise<number>): Promise<void> {
  const floors: number[] = [];
  const engines: number[] = [];
  for (let i = 0; i < rounds; i++) {
    floors.push(await floor());
    engines.push(await engine());
  }
  const [f, e] = [median(floors), median(engines)];
  const verdict = e / f >= target ? 'at least' : 'UNDER';
  console.log(
    `${name.padEnd(34)} ${Math.round(e).toLocaleString('en').padStart(8)}/s, floor ${Math.round(f).toLocaleString('en').padStart(8)}: ` +
      `${((e / f) * 100).toFixed(0)} % (${verdict} the target of ${target * 100} %)`,
  );
}

console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}, ${rounds} rounds, medians`);
for (const synchronous of ['FULL', 'NORMAL'] as const) {
  await compare(
    `drain beside a narrow table, ${synchronous}`,
    0.2,
    () => narrowDrain(synchronous),
    () => engineDrain(synchronous),
  );
  await compare(
    `drain, ${synchronous}`,
    0.5,
    () => floorDrain(synchronous),
    () => engineDrain(synchronous),
  );
  const ones = synchronous === 'FULL' ? 2_000 : jobs;
  await compare(
    `enqueue one by one, ${synchronous}`,
    0.7,
    () => floorEnqueue(synchronous, 1, ones),
    () => engineEnqueue(synchronous, 'one', ones),
  );
  await compare(
    `enqueueMany of 1,000, ${synchronous}`,
    0.6,
    () => floorEnqueue(synchronous, 1_000, jobs),
    () => engineEnqueue(synchronous, 'many', jobs),
  );
  await compare(
    `1,000 enqueues together, ${synchronous}`,
    0.6,
    () => floorEnqueue(synchronous, 1_000, jobs),
    () => engineEnqueue(synchronous, 'together', jobs),
  );
}
rmSync(folder, { recursive: true });
