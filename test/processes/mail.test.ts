/** A worker killed while sending: every mail arrives once, or twice with the same Message-ID. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createTasks } from 'escapement';
import { createMail } from 'escapement/email';
import { sqlite } from 'escapement/sqlite';
import { expect, onTestFinished, test } from 'vitest';
import { startServer } from '../email/server.ts';

const mailer = fileURLToPath(new URL('./fixtures/mailer.ts', import.meta.url));
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const mails = process.env.ESCAPEMENT_SOAK ? 40 : 16;
const kills = process.env.ESCAPEMENT_SOAK ? 6 : 2;

test('a worker killed while sending loses no mail, and resends only with the same Message-ID', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'escapement-mail-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'app.db');
  let worker: ChildProcess | undefined;
  let killed = 0;
  let sinceKill = 0;
  const seen = new Set<string>();
  // After the message was accepted: immediately, so that the response is never read, or while the response is in transit.
  const kill = (child: ChildProcess | undefined) => {
    killed += 1;
    sinceKill = 0;
    if (killed % 2 === 0) child?.kill('SIGKILL');
    else setImmediate(() => child?.kill('SIGKILL'));
  };
  const deferred = new Set<string>();
  const server = await startServer({
    rcpt: (address) => {
      if (!address.startsWith('slow') || deferred.has(address)) return undefined;
      deferred.add(address);
      return '451 4.7.1 greylisted';
    },
    data: ({ messageId }) => {
      if (seen.has(messageId)) return undefined;
      seen.add(messageId);
      sinceKill += 1;
      if (sinceKill >= 5 && killed < kills) kill(worker);
      return undefined;
    },
  });
  onTestFinished(() => server.close());

  const tasks = createTasks({ backend: sqlite({ file, synchronous: 'NORMAL' }), logger: quiet });
  onTestFinished(() => tasks.close());
  const mail = createMail(tasks, { transport: 'smtp://127.0.0.1', from: 'shop@example.com' });
  const note = mail.define('note', { build: ({ to }: { to: string }) => ({ to }) });
  const results = await note.sendMany(Array.from({ length: mails }, (_, i) => ({ to: `a${i}@example.org, slow${i}@example.org` })));

  onTestFinished(() => void worker?.kill('SIGKILL'));
  let ended = Promise.resolve();
  const start = (shiftMs: number) => {
    const child = spawn(process.execPath, [mailer, file, String(server.port), String(shiftMs)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    worker = child;
    ended = new Promise((resolve) => child.once('exit', () => resolve()));
  };
  // Each worker's clock is past the previous worker's leases, so the test need not wait for orphans.
  for (let i = 0; i <= kills; i++) {
    start(i * 40_000);
    if (i < kills) await ended;
  }
  const counts = async () => (await tasks.queues.list())[0]?.counts;
  await expect.poll(async () => (await counts())?.successful, { timeout: 120_000, interval: 100 }).toBe(mails);
  expect(killed).toBe(kills);

  let twice = 0;
  for (const { id } of results) {
    const own = server.received.filter(({ messageId }) => messageId === `<${id}@example.com>`);
    for (const kind of ['a', 'slow']) {
      const arrivals = own.filter(({ to }) => to.some((address) => address.startsWith(kind)));
      expect(arrivals.length, `${kind} of ${id}`).toBeGreaterThanOrEqual(1);
      expect(arrivals.length, `${kind} of ${id}`).toBeLessThanOrEqual(2);
      if (arrivals.length > 1) twice += 1;
    }
  }
  expect(server.received.every(({ messageId }) => results.some(({ id }) => messageId === `<${id}@example.com>`))).toBe(true);
  // Only mail in progress may have been repeated.
  expect(twice).toBeGreaterThan(0);
  expect(twice).toBeLessThanOrEqual(kills * 2);
});
