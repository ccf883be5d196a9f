/** `escapement mail`: previews and the outbox. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { startServer } from '../email/server.ts';
import { cli, root } from './cli.ts';
import { mailOn } from './fixtures/mail.ts';

let folder: string;
let modules = 0;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'escapement-mail-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
});

function module(port = 1): string {
  modules += 1;
  const path = join(folder, `tasks-${modules}.ts`);
  const fixture = JSON.stringify(join(root, 'test/cli/fixtures/mail.ts'));
  writeFileSync(
    path,
    `import { mailOn } from ${fixture};\nexport const { tasks } = mailOn(${JSON.stringify(join(folder, 'app.db'))}, ${port});\n`,
  );
  return path;
}

const anonymous = (text: string) =>
  text
    .replaceAll(folder, 'FOLDER')
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g, 'ID')
    .replace(/^Date: .*$/m, 'Date: NOW')
    .replace(/--_\S+|boundary="[^"]*"/g, 'BOUNDARY');

test('preview renders a mail from its first example, another example, or an input', async () => {
  const out = join(folder, 'mail.html');
  const first = await cli(['mail', 'preview', module(), 'welcome', '--out', out]);
  expect(first.stderr).toBe('');
  expect(anonymous(first.stdout)).toMatchInlineSnapshot(`
    "From: Shop <shop@example.com>
    To: ada@example.org
    Subject: =?UTF-8?Q?Welcome=2C_Ada=1B=5B2J?=
    Date: NOW
    Message-ID: <ID@example.com>
    MIME-Version: 1.0
    Content-Type: multipart/alternative;
     BOUNDARY

    Dear Ada,

    welcome.

    HTML written to FOLDER/mail.html
    "
  `);
  expect(readFileSync(out, 'utf8')).toBe('<h1>Welcome, Ada</h1>');
  const bob = await cli(['mail', 'preview', module(), 'mail.welcome', '--example', 'bob', '--json', '--out', out]);
  expect(JSON.parse(bob.stdout)).toMatchObject({ to: ['bob@example.org'], from: 'shop@example.com', file: out });
  const given = await cli(['mail', 'preview', module(), 'welcome', '--input', '{"name":"Eve"}', '--out', out]);
  expect(given.stdout).toMatch(/Dear Eve/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  expect(first.stdout + bob.stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
});

test('preview rejects what it cannot render', async () => {
  const refused = async (...args: string[]) => {
    const { code, stderr } = await cli(['mail', 'preview', module(), ...args]);
    return [code, stderr.trim().replace(/tasks-\d+/, 'tasks')];
  };
  expect(await refused('goodbye')).toEqual([2, 'escapement: tasks.ts defines no email goodbye; its emails are welcome']);
  expect(await refused('welcome', '--example', 'eve')).toEqual([2, 'escapement: welcome has no example eve; its examples are ada and bob']);
  expect(await refused('welcome', '--input', '{"name":"nobody"}')).toEqual([1, 'escapement: welcome cannot be built: no such user']);
  expect(await refused('welcome', '--input', '{}', '--example', 'ada')).toEqual([2, 'escapement: give --example or --input, not both']);
  expect((await cli(['mail', 'preview', module()])).stdout).toBe('welcome  examples: ada, bob\n');
});

test('outbox lists mails, shows one, and sends or drops a held one', async () => {
  const server = await startServer();
  onTestFinished(() => server.close());
  const { tasks, welcome, odd } = mailOn(join(folder, 'app.db'), server.port);
  await tasks.open();
  onTestFinished(() => tasks.close());
  await odd.enqueue();
  const sent = await welcome.send({ name: 'Ada' });
  const held = await welcome.send({ name: 'Eve', domain: 'elsewhere.example' });
  const later = await welcome.using({ runAfter: '3d' }).send({ name: 'Bob' });
  const worker = tasks.worker();
  await worker.start();
  for (const result of [sent, held]) await result.wait({ timeout: '60s' });
  const outbox = (...args: string[]) => cli(['mail', 'outbox', module(server.port), ...args], { now: () => Date.now() + 3_600_000 });

  const listed = await outbox();
  expect(listed.stderr).toBe('');
  const lines = listed.stdout
    .trim()
    .split('\n')
    .map((line) => line.slice(8).replace(/in 2d\d\dh/, 'in 2d23h'));
  expect(lines).toMatchInlineSnapshot(`
    [
      "state        when  to                     subject         tries",
      "queued   in 2d23h                         (mail.welcome)      0",
      "held    1h00m ago  eve@elsewhere.example  Welcome, Eve        1  no recipient is in an allowed domain (e…",
      "sent    1h00m ago  ada@example.org        Welcome, Ada        1",
    ]
  `);
  const shown = await outbox(held.id.slice(-8));
  expect(anonymous(shown.stdout)).toMatch(
    /Welcome, Eve {2}held[\s\S]*note {8}no recipient is in an allowed domain \(example\.org\)[\s\S]*Dear Eve,\n\nwelcome\./,
  );
  expect((await outbox(sent.id)).stdout).toMatch(/the text and headers of this email are not kept/);

  await worker.stop();
  expect((await outbox(later.id, '--drop')).stdout).toBe(`${later.id}  dropped\n`);
  expect((await outbox(held.id, '--send')).stdout).toBe(`${held.id}  will be sent by the next free worker\n`);
  const document = JSON.parse((await outbox('--json')).stdout) as { mails: { state: string; job: string }[] };
  expect(document.mails.map(({ state }) => state)).toEqual(['queued', 'dropped', 'sent']);
  expect((await outbox('--send')).stderr).toMatch(/--send and --drop need the id of an email/);
});
