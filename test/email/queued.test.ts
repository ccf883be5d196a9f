/** The Nodemailer transport that enqueues: its results, which message fields are supported, and transactions. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import Database from 'better-sqlite3';
import { createTasks, dummy, memory, type Tasks } from 'escapement';
import { type QueuedInfo, queued } from 'escapement/email';
import { sqlite } from 'escapement/sqlite';
import { createTransport } from 'nodemailer';
import { afterEach, describe, expect, test } from 'vitest';
import { startServer } from './server.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'escapement-mail-'));
  ends.push(() => rmSync(path, { recursive: true }));
  return path;
}

const message = { from: 'shop@example.com', to: 'ada@example.org', cc: 'bob@example.org', subject: 'Hello', text: 'secret words' };

async function sent(
  tasks: Tasks,
  transport: object,
  send: (mailer: ReturnType<typeof createTransport<QueuedInfo>>) => Promise<QueuedInfo>,
) {
  const outgoing = queued(tasks, { transport, retry: { maxAttempts: 2, backoff: 1 } });
  const info = await send(createTransport<QueuedInfo>(outgoing));
  const worker = tasks.worker();
  await worker.start();
  const result = await tasks.getResult(info.jobId);
  await result.wait({ timeout: '60s' });
  return { info, result };
}

describe('sendMail', () => {
  test('returns a pending message, and a worker sends it', async () => {
    const server = await startServer();
    ends.push(server.close);
    const tasks = createTasks({ backend: memory(), logger: quiet });
    ends.push(() => tasks.close());
    const { info, result } = await sent(tasks, { host: '127.0.0.1', port: server.port }, (mailer) => mailer.sendMail(message));
    expect(info).toEqual({
      messageId: `<${info.jobId}@example.com>`,
      jobId: expect.any(String),
      queued: true,
      accepted: [],
      rejected: [],
      pending: ['ada@example.org', 'bob@example.org'],
      envelope: { from: 'shop@example.com', to: ['ada@example.org', 'bob@example.org'] },
      response: `queued as ${info.jobId}`,
    });
    expect(result).toMatchObject({ status: 'successful', task: 'mail.message', tags: ['mail'] });
    expect(server.received).toMatchObject([{ messageId: info.messageId, to: ['ada@example.org', 'bob@example.org'] }]);
    expect(JSON.stringify([result, await tasks.jobs.list()])).not.toContain('secret');
  });

  test('preserves headers, lists, envelope, priority and all kinds of attachments', async () => {
    const server = await startServer();
    ends.push(server.close);
    const tasks = createTasks({ backend: memory(), logger: quiet });
    ends.push(() => tasks.close());
    const file = join(folder(), 'report.csv');
    writeFileSync(file, 'a,b\n1,2\n');
    const { info } = await sent(tasks, { host: '127.0.0.1', port: server.port }, (mailer) =>
      mailer.sendMail({
        ...message,
        messageId: '<own@example.com>',
        date: new Date('2026-01-02T03:04:05Z'),
        headers: { 'X-Campaign': 'spring', $part: '7' },
        list: { unsubscribe: { url: 'https://example.com/u', comment: 'leave' } },
        envelope: { from: 'bounces@example.com', to: 'ada@example.org' },
        priority: 'high',
        html: Readable.from(['<p>streamed', ' html</p>']),
        attachments: [
          { filename: 'bytes.bin', content: Buffer.from([0, 255, 1]) },
          { filename: 'stream.txt', content: Readable.from(['from a stream']) },
          { path: file },
          { filename: 'data.txt', path: 'data:text/plain;base64,aGVsbG8=' },
        ],
      }),
    );
    rmSync(file);
    const [mail] = server.received;
    expect(info.messageId).toBe('<own@example.com>');
    expect(mail).toMatchObject({ from: 'bounces@example.com', to: ['ada@example.org'], messageId: '<own@example.com>' });
    for (const part of [
      /^X-Campaign: spring/m,
      /^\$part: 7/im,
      /^List-Unsubscribe: <https:\/\/example\.com\/u> \(leave\)/m,
      /^X-Priority: 1/m,
      /^Date: Fri, 02 Jan 2026 03:04:05/m,
      /<p>streamed html<\/p>/,
      /filename=bytes\.bin[\s\S]*AP8B/,
      new RegExp(`filename=stream\\.txt[\\s\\S]*${Buffer.from('from a stream').toString('base64')}`),
      new RegExp(`filename=report\\.csv[\\s\\S]*${Buffer.from('a,b\n1,2\n').toString('base64')}`),
      /filename=data\.txt[\s\S]*aGVsbG8=/,
    ])
      expect(mail?.raw).toMatch(part);
  });

  test('preserves a raw message, and its DKIM options', async () => {
    const server = await startServer();
    ends.push(server.close);
    const tasks = createTasks({ backend: memory(), logger: quiet });
    ends.push(() => tasks.close());
    const raw = 'From: a@example.com\r\nTo: b@example.org\r\nMessage-ID: <raw@example.com>\r\nSubject: raw\r\n\r\nas it is\r\n';
    const { generateKeyPairSync } = await import('node:crypto');
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const dkim = {
      domainName: 'example.com',
      keySelector: 's1',
      privateKey: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString(),
    };
    const outgoing = queued(tasks, { transport: { host: '127.0.0.1', port: server.port }, retry: { maxAttempts: 1 } });
    const mailer = createTransport<QueuedInfo>(outgoing);
    const first = await mailer.sendMail({ raw, envelope: { from: 'a@example.com', to: ['b@example.org'] } });
    const second = await mailer.sendMail({ ...message, dkim });
    await tasks.worker().start();
    for (const { jobId } of [first, second]) await (await tasks.getResult(jobId)).wait({ timeout: '60s' });
    expect(first.messageId).toBe('<raw@example.com>');
    expect(server.received.find(({ messageId }) => messageId === '<raw@example.com>')).toMatchObject({ raw, to: ['b@example.org'] });
    expect(server.received.find(({ messageId }) => messageId === second.messageId)?.raw).toMatch(/^DKIM-Signature: .*d=example\.com/m);
  });

  test('applies job options from using()', async () => {
    const tasks = createTasks({ backend: dummy(), queues: { default: {}, bulk: {} }, logger: quiet });
    const outgoing = queued(tasks, { transport: 'smtp://localhost' });
    const later = createTransport<QueuedInfo>(outgoing.using({ runAfter: '3d', tags: ['news'] }).using({ queue: 'bulk' }));
    const { jobId } = await later.sendMail(message);
    const result = await tasks.getResult(jobId);
    expect(result).toMatchObject({ status: 'scheduled', queue: 'bulk', tags: ['mail', 'news'] });
    expect(await later.verify()).toBe(true);
  });
});

describe('unsupported messages are rejected with their path', () => {
  const refused = async (extra: object, options: object = {}) => {
    const tasks = createTasks({ backend: dummy(), logger: quiet });
    const mailer = createTransport<QueuedInfo>(queued(tasks, { transport: 'smtp://localhost', ...options }));
    const error: { path?: string; message: string } = await mailer.sendMail({ ...message, ...extra } as never).then(
      () => new Error('the message was accepted'),
      (thrown) => thrown,
    );
    expect((await tasks.jobs.list()).items).toEqual([]);
    return error;
  };

  test.each<[string, object, RegExp]>([
    ['normalizeHeaderKey', { normalizeHeaderKey: (key: string) => key }, /a function cannot be stored with the message/],
    ['signal', { signal: new AbortController().signal }, /an object of the class AbortSignal cannot be stored/],
    ['auth', { auth: { user: 'a', pass: 'b' } }, /credentials are not stored/],
    ['attachments[1].extra', { attachments: [{ content: 'a' }, { content: 'b', extra: new Map() }] }, /class Map cannot be stored/],
    ['attachments[0].path', { attachments: [{ path: '/no/such/file' }] }, /the file cannot be read: ENOENT/],
    ['attachments[0].path', { disableFileAccess: true, attachments: [{ path: '/etc/hostname' }] }, /disableFileAccess is set/],
  ])('%s', async (path, extra, text) => {
    const error = await refused(extra);
    expect(error).toMatchObject({ path, message: expect.stringMatching(text) });
  });

  test.each([
    ['a buffer', { attachments: [{ content: Buffer.alloc(60) }, { content: Buffer.alloc(60) }] }, 'attachments[1].content'],
    ['a stream', { attachments: [{ content: Readable.from([Buffer.alloc(500), Buffer.alloc(500)]) }] }, 'attachments[0].content'],
    ['a text', { text: 'x'.repeat(200) }, 'text'],
  ])('content over the limit, from %s', async (_, extra, path) => {
    expect(await refused(extra, { limit: 100 })).toMatchObject({ path, message: expect.stringMatching(/more than 100 bytes of content/) });
  });

  test('a message without recipients', async () => {
    expect(await refused({ to: '', cc: '' })).toMatchObject({ message: expect.stringMatching(/no recipient/) });
  });
});

describe("in the caller's transaction", () => {
  function setUp() {
    const file = join(folder(), 'app.db');
    const tasks = createTasks({ backend: sqlite({ file }), logger: quiet });
    const outgoing = queued(tasks, { transport: 'smtp://localhost' });
    const db = new Database(file);
    ends.push(() => db.close());
    ends.push(() => tasks.close());
    return { tasks, db, mailer: createTransport<QueuedInfo>(outgoing.using({ transaction: db })) };
  }

  test('the message and its files exist if and only if the transaction commits', async () => {
    const { tasks, db, mailer } = setUp();
    await tasks.open();
    const file = join(folder(), 'a.txt');
    writeFileSync(file, 'attached');
    const answers: Promise<QueuedInfo>[] = [];
    const once = db.transaction((fail: boolean) => {
      answers.push(mailer.sendMail({ ...message, attachments: [{ path: file }, { content: Buffer.from('b') }] }));
      if (fail) throw new Error('no');
    });
    once.immediate(false);
    expect(() => once.immediate(true)).toThrow('no');
    const [kept, gone] = await Promise.all(answers);
    const result = await tasks.getResult(kept?.jobId ?? '');
    expect(Buffer.from((await result.blob('part.0')) ?? []).toString()).toBe('attached');
    await expect(tasks.getResult(gone?.jobId ?? '')).rejects.toThrow(/not in the store|no job/);
  });

  test('errors are thrown, so that the transaction fails', async () => {
    const { tasks, db, mailer } = setUp();
    await tasks.open();
    db.exec('CREATE TABLE users (name TEXT)');
    const signUp = db.transaction(() => {
      db.prepare('INSERT INTO users VALUES (?)').run('ada');
      void mailer.sendMail({ ...message, attachments: [{ content: Readable.from(['a']) }] });
    });
    expect(() => signUp.immediate()).toThrow(/attachments\[0\]\.content: a stream cannot be read inside a synchronous transaction/);
    expect(db.prepare('SELECT count(*) AS count FROM users').get()).toEqual({ count: 0 });
  });
});
