/** Mail through real servers on loopback: accepted, deferred, rejected, dropped and stalled, and the resulting jobs. */
import { createTasks, memory, type TaskResult } from 'escapement';
import { createMail, type MailOptions } from 'escapement/email';
import { afterEach, describe, expect, test } from 'vitest';
import { type Behaviour, type Server, startServer } from './server.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function setUp(behaviour: Behaviour = {}, options: Partial<MailOptions> = {}, transport: object = {}) {
  const server = await startServer(behaviour);
  ends.push(server.close);
  const tasks = createTasks({ backend: memory(), logger: quiet });
  ends.push(() => tasks.close());
  const mail = createMail(tasks, {
    transport: { host: '127.0.0.1', port: server.port, ...transport },
    from: 'Shop <shop@example.com>',
    retry: { maxAttempts: 5, backoff: 1 },
    ...options,
  });
  const note = mail.define('note', { build: ({ to }: { to: string }) => ({ to, subject: 'A note', text: 'secret words' }) });
  const worker = tasks.worker();
  await worker.start();
  return { server, tasks, mail, note, worker };
}

async function finished(result: TaskResult): Promise<TaskResult> {
  return result.wait({ timeout: '60s' });
}

const outcome = (result: TaskResult) => result.returnValue as { state: string; accepted: string[]; refused: { address: string }[] };

async function entry(mail: { outbox: { list(): Promise<unknown[]> } }) {
  const [first] = await mail.outbox.list();
  return first as Record<string, unknown>;
}

function idsOf({ received }: Server): string[] {
  return [...new Set(received.map(({ messageId }) => messageId))];
}

describe('a mail', () => {
  test('is built and sent by the worker, and its text is not in any row', async () => {
    const { server, tasks, mail, note } = await setUp();
    const result = await finished(await note.send({ to: 'Ada <ada@example.org>' }));
    expect(outcome(result)).toMatchObject({ state: 'sent', accepted: ['ada@example.org'], refused: [] });
    expect(server.received).toMatchObject([{ from: 'shop@example.com', to: ['ada@example.org'], messageId: `<${result.id}@example.com>` }]);
    expect(server.received[0]?.raw).toContain('secret words');
    expect(await entry(mail)).toMatchObject({ state: 'sent', to: ['ada@example.org'], subject: 'A note', attempts: 1 });
    expect(JSON.stringify([await tasks.jobs.list(), result.history, await mail.outbox.get(result.id)])).not.toContain('secret');
  });

  test('is retried on a greylisting server, with the same Message-ID and date', async () => {
    let tries = 0;
    const { server, note } = await setUp({ rcpt: () => (++tries < 3 ? '450 4.7.1 Greylisted, try again in 0 seconds' : undefined) });
    const result = await finished(await note.send({ to: 'ada@example.org' }));
    expect(result).toMatchObject({ status: 'successful', attempts: 3 });
    expect(server.received).toHaveLength(1);
    expect(result.errors[0]?.message).toMatch(/Greylisted/);
  });

  test('waits as long as the server asks', async () => {
    const { mail, note } = await setUp({ rcpt: () => '451 4.7.1 Please try again in 10 minutes' });
    const result = await note.send({ to: 'ada@example.org' });
    await expect.poll(async () => (await result.refresh()).status, { timeout: 30_000 }).toBe('retrying');
    const waitMs = result.dueAt.getTime() - (result.history[0]?.endedAt?.getTime() ?? 0);
    expect(waitMs).toBe(600_000);
    expect(await entry(mail)).toMatchObject({ state: 'deferred', note: expect.stringMatching(/try again in 10 minutes/) });
  });

  test('is not retried if the server rejects it permanently', async () => {
    const { server, mail, note } = await setUp({ rcpt: () => '550 5.1.1 no such user' });
    const result = await finished(await note.send({ to: 'ada@example.org' }));
    expect(result).toMatchObject({ status: 'failed', reason: 'permanent', attempts: 1 });
    expect(result.errors[0]?.message).toMatch(/^refused: .*no such user/);
    expect(server.received).toEqual([]);
    expect(await entry(mail)).toMatchObject({ state: 'refused', refused: [{ address: 'ada@example.org' }] });
  });

  test('is sent to the same addresses when it is retried by hand after a rejection', async () => {
    let isThere = false;
    const { server, mail, note } = await setUp({ rcpt: () => (isThere ? undefined : '550 5.1.1 no such user') });
    const result = await finished(await note.send({ to: 'ada@example.org' }));
    isThere = true;
    await mail.outbox.send(result.id);
    await finished(result);
    expect(server.received).toHaveLength(1);
    expect(await entry(mail)).toMatchObject({ state: 'sent', accepted: ['ada@example.org'], refused: [] });
  });

  test('is retried only for the deferred recipients', async () => {
    let tries = 0;
    const { server, note } = await setUp({
      rcpt: (address) => {
        if (address === 'gone@example.org') return '550 5.1.1 no such user';
        return address === 'full@example.org' && ++tries < 3 ? '452 4.2.2 mailbox full' : undefined;
      },
    });
    const result = await finished(await note.send({ to: 'ada@example.org, full@example.org, gone@example.org' }));
    expect(result).toMatchObject({ status: 'successful', attempts: 3 });
    expect(server.received.map(({ to }) => to)).toEqual([['ada@example.org'], ['full@example.org']]);
    expect(idsOf(server)).toEqual([`<${result.id}@example.com>`]);
    expect(outcome(result)).toMatchObject({
      accepted: ['ada@example.org', 'full@example.org'],
      refused: [{ address: 'gone@example.org', response: expect.stringMatching(/no such user/) }],
    });
  });

  test("arrives twice with the same Message-ID if the server's response was lost", async () => {
    let drops = 0;
    const { server, note } = await setUp({ data: () => (drops++ === 0 ? 'drop' : undefined) });
    const result = await finished(await note.send({ to: 'ada@example.org' }));
    expect(result).toMatchObject({ status: 'successful', attempts: 2 });
    expect(server.received).toHaveLength(2);
    expect(idsOf(server)).toHaveLength(1);
  });

  test('is retried if the server fails after the transfer', async () => {
    let tries = 0;
    const { server, note } = await setUp({ data: () => (++tries === 1 ? '451 4.3.0 local error' : undefined) });
    expect(await finished(await note.send({ to: 'ada@example.org' }))).toMatchObject({ status: 'successful', attempts: 2 });
    expect(server.received).toHaveLength(1);
  });

  test('times out on a stalled server', async () => {
    let stalls = 0;
    const { server, note } = await setUp(
      { data: () => (stalls++ === 0 ? 'stall' : undefined) },
      { timeout: '1s', retry: { maxAttempts: 100, backoff: 1 } },
    );
    const result = await finished(await note.send({ to: 'ada@example.org' }));
    expect(result.errors[0]).toMatchObject({ name: 'TimeoutError' });
    expect(result.status).toBe('successful');
    expect(idsOf(server)).toEqual([`<${result.id}@example.com>`]);
  });

  test('is finished if the worker stops while sending it, and is not sent again', async () => {
    let answer = () => {};
    const answered = new Promise<undefined>((resolve) => {
      answer = () => resolve(undefined);
    });
    const { server, worker, note } = await setUp({ data: () => answered });
    const result = await note.send({ to: 'ada@example.org' });
    await expect.poll(() => server.received.length, { timeout: 30_000 }).toBe(1);
    const stopped = worker.stop({ timeout: 0 });
    answer();
    await stopped;
    expect(await result.refresh()).toMatchObject({ status: 'successful', attempts: 1 });
    expect(server.received).toHaveLength(1);
  });

  test('is retried if the connection is refused', async () => {
    const { server, note } = await setUp({}, { retry: { maxAttempts: 2, backoff: 1 } });
    await server.close();
    const result = await finished(await note.send({ to: 'ada@example.org' }));
    expect(result).toMatchObject({ status: 'failed', reason: null, attempts: 2 });
    expect(result.errors[0]?.message).toMatch(/ECONNREFUSED/);
  });

  test('fails immediately without a sender and a valid recipient', async () => {
    const { server, note, mail } = await setUp();
    const failures = async (to: string) => (await finished(await note.send({ to }))).errors.map(({ message }) => message);
    expect(await failures('')).toEqual([expect.stringMatching(/no recipient/)]);
    expect(await failures('not an address')).toEqual([expect.stringMatching(/no recipient/)]);
    const anonymous = mail.define('anonymous', { build: () => ({ from: '', to: 'ada@example.org', text: '' }) });
    expect((await finished(await anonymous.send())).errors[0]?.message).toMatch(/no sender/);
    expect(server.received).toEqual([]);
  });
});

describe('a server that requires a login', () => {
  const login = (): Behaviour => ({
    authOptional: false,
    allowInsecureAuth: true,
    onAuth({ username, password }, _session, callback) {
      if (username === 'shop' && password === 'right') callback(null, { user: username });
      else callback(Object.assign(new Error('bad credentials'), { responseCode: 535 }));
    },
  });

  test('accepts mail with valid credentials', async () => {
    const { server, note } = await setUp(login(), {}, { auth: { user: 'shop', pass: 'right' } });
    await finished(await note.send({ to: 'ada@example.org' }));
    expect(server.received).toHaveLength(1);
  });

  test('rejects wrong credentials, and the mail waits until they are corrected', async () => {
    const { note } = await setUp(login(), { retry: { maxAttempts: 2, backoff: 1 } }, { auth: { user: 'shop', pass: 'wrong' } });
    const result = await finished(await note.send({ to: 'ada@example.org' }));
    expect(result).toMatchObject({ status: 'failed', reason: null, attempts: 2 });
    expect(JSON.stringify(result.errors)).not.toContain('wrong');
  });
});

test('a server with STARTTLS', async () => {
  const { server, note } = await setUp(
    { secure: false, disabledCommands: [] },
    {},
    { requireTLS: true, tls: { rejectUnauthorized: false } },
  );
  await finished(await note.send({ to: 'ada@example.org' }));
  expect(server.received).toHaveLength(1);
});

test('a connection pool is closed with the last worker, and not before', async () => {
  const { server, tasks, note } = await setUp({}, {}, { pool: true, maxConnections: 1 });
  const other = tasks.worker();
  await other.start();
  const results = await note.sendMany(Array.from({ length: 5 }, (_, i) => ({ to: `a${i}@example.org` })));
  for (const result of results) await finished(result);
  await other.stop();
  await finished(await note.send({ to: 'b@example.org' }));
  expect(server.received).toHaveLength(6);
  expect(server.connections()).toBe(1);
  expect(server.open()).toBe(1);
  await tasks.close();
  await expect.poll(() => server.open(), { timeout: 30_000 }).toBe(0);
});

describe('delivery options', () => {
  test('intercept sends all mail to one address', async () => {
    const { server, note } = await setUp({}, { intercept: 'team@example.com', allow: ['example.net'] });
    const result = await finished(await note.send({ to: 'ada@example.org, bob@example.org' }));
    expect(server.received.map(({ to }) => to)).toEqual([['team@example.com']]);
    expect(server.received[0]?.raw).toMatch(/^X-Intercepted-To: ada@example\.org, bob@example\.org/m);
    expect(server.received[0]?.raw).toMatch(/^To: team@example\.com/m);
    expect(outcome(result).accepted).toEqual(['team@example.com']);
  });

  test('allow sends only to the given domains, and holds mail for others', async () => {
    const { server, mail, note } = await setUp({}, { allow: ['Example.org'] });
    const some = await finished(await note.send({ to: 'ada@example.org, eve@elsewhere.example' }));
    expect(outcome(some)).toMatchObject({ accepted: ['ada@example.org'], refused: [{ address: 'eve@elsewhere.example' }] });
    const none = await finished(await note.send({ to: 'eve@elsewhere.example' }));
    expect(outcome(none)).toMatchObject({ state: 'held', accepted: [] });
    expect(server.received).toHaveLength(1);
    const held = await mail.outbox.get(none.id);
    expect(held).toMatchObject({ state: 'held', text: 'secret words', note: 'no recipient is in an allowed domain (example.org)' });
  });

  test('suppress is called for each address just before sending', async () => {
    const asked: unknown[] = [];
    const suppress = async (address: string, about: object) => {
      asked.push([address, about]);
      return address.startsWith('bounced') && 'bounced on Monday';
    };
    const { server, note } = await setUp({}, { suppress });
    const some = await finished(await note.send({ to: 'ada@example.org, bounced@example.org' }));
    expect(outcome(some).refused).toEqual([{ address: 'bounced@example.org', response: 'bounced on Monday' }]);
    expect(asked[0]).toEqual(['ada@example.org', { task: 'mail.note', subject: 'A note' }]);
    const none = await finished(await note.send({ to: 'bounced@example.org' }));
    expect(none).toMatchObject({ status: 'cancelled', reason: 'bounced on Monday' });
    expect(server.received).toHaveLength(1);
  });
});
