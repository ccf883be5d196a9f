/** Transports other than SMTP, and `escapement dev`, which holds mail. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTasks, memory } from 'escapement';
import { createMail, type MailOptions } from 'escapement/email';
import { createTransport } from 'nodemailer';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { root, start } from '../cli/cli.ts';
import { mailOn } from '../cli/fixtures/mail.ts';
import { startServer } from './server.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'escapement-mail-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
});

async function sentBy(transport: MailOptions['transport']) {
  const tasks = createTasks({ backend: memory(), logger: quiet });
  onTestFinished(() => tasks.close());
  const mail = createMail(tasks, { transport, from: 'shop@example.com', retry: { maxAttempts: 3, backoff: 1 } });
  const note = mail.define('note', { build: () => ({ to: 'ada@example.org', subject: 'Hi', text: 'words' }) });
  await tasks.worker().start();
  return (await note.send()).wait({ timeout: '60s' });
}

describe('a mail is sent through', () => {
  test('sendmail, with temporary and permanent failures', async () => {
    const program = (name: string, body: string) => {
      const path = join(folder, name);
      writeFileSync(path, `#!/bin/sh\n${body}\n`);
      chmodSync(path, 0o755);
      return { sendmail: true, path };
    };
    const counted = `cat >> ${folder}/mails; echo x >> ${folder}/runs; test $(wc -l < ${folder}/runs) -ge 2 || exit 75`;
    expect(await sentBy(program('later', counted))).toMatchObject({ status: 'successful', attempts: 2 });
    expect(readFileSync(join(folder, 'mails'), 'utf8')).toMatch(/^To: ada@example\.org/m);
    expect(await sentBy(program('never', 'cat > /dev/null; exit 67'))).toMatchObject({
      status: 'failed',
      attempts: 1,
      reason: 'permanent',
    });
  });

  test('Amazon SES', async () => {
    const sent: { Content: { Raw: { Data: Buffer } } }[] = [];
    let throttled = 1;
    class SendEmailCommand {
      readonly input: (typeof sent)[number];
      constructor(input: (typeof sent)[number]) {
        this.input = input;
      }
    }
    const sesClient = {
      async send({ input }: SendEmailCommand) {
        if (throttled-- > 0) throw Object.assign(new Error('Maximum sending rate exceeded.'), { name: 'TooManyRequestsException' });
        sent.push(input);
        return { MessageId: 'ses-1' };
      },
    };
    expect(await sentBy({ SES: { sesClient, SendEmailCommand } })).toMatchObject({ status: 'successful', attempts: 2 });
    expect(sent[0]?.Content.Raw.Data.toString()).toMatch(/words/);
  });

  test('a transporter of the application, a plugin, and a transport returned by a function', async () => {
    const server = await startServer();
    onTestFinished(() => server.close());
    const options = { host: '127.0.0.1', port: server.port };
    const plugin = { name: 'own', version: '1', send: (_: object, done: (error: null, info: object) => void) => done(null, {}) };
    for (const transport of [createTransport(options), () => createTransport(options), `smtp://127.0.0.1:${server.port}`, plugin])
      expect(await sentBy(transport)).toMatchObject({ status: 'successful', attempts: 1 });
    expect(server.received).toHaveLength(3);
  });
});

describe('escapement dev', () => {
  const app = async (...flags: string[]) => {
    const server = await startServer();
    onTestFinished(() => server.close());
    const file = join(folder, 'app.db');
    const path = join(folder, 'tasks.ts');
    const fixture = JSON.stringify(join(root, 'test/cli/fixtures/mail.ts'));
    writeFileSync(path, `import { mailOn } from ${fixture};\nexport const { tasks } = mailOn(${JSON.stringify(file)}, ${server.port});\n`);
    const { tasks, mail, welcome } = mailOn(file, server.port);
    onTestFinished(() => tasks.close());
    await tasks.open();
    const result = await welcome.send({ name: 'Ada' });
    const program = start(['dev', path, ...flags]);
    await result.wait({ timeout: '120s' });
    program.child.kill('SIGTERM');
    expect(await program.ended).toMatchObject({ stderr: '' });
    return { server, entry: await mail.outbox.get(result.id), mail, tasks };
  };

  test('holds mail, which can be sent from the outbox later', async () => {
    const { server, entry, mail, tasks } = await app();
    expect(entry).toMatchObject({
      state: 'held',
      note: expect.stringMatching(/--deliver sends it/),
      text: expect.stringMatching(/Dear Ada/),
    });
    expect(server.connections()).toBe(0);
    await mail.outbox.send(entry.job);
    await tasks.worker().start();
    await expect.poll(() => server.received.length, { timeout: 30_000 }).toBe(1);
    expect(server.received[0]?.messageId).toBe(entry.messageId);
  });

  test('sends mail with --deliver', async () => {
    const { server, entry } = await app('--deliver');
    expect(entry.state).toBe('sent');
    expect(server.received).toHaveLength(1);
  });
});
