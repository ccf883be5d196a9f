/** Compiles in a strict project without skipLibCheck and without @types/node. */
import { createTasks, memory, snooze } from 'escapement';
import { createMail } from 'escapement/email';
import { sqlite } from 'escapement/sqlite';
import { explore, simulate } from 'escapement/testing';

const tasks = createTasks({ backends: { default: memory(), kept: sqlite({ file: 'tasks.db' }) } });
const mail = tasks.define('mail', {
  retry: { maxAttempts: 3, backoff: '10s' },
  run: async ({ to }: { to: string; cc?: readonly string[] }, ctx) => (ctx.signal.aborted ? snooze('1m') : { sent: to }),
});

const post = createMail(tasks, { transport: 'smtp://localhost', from: 'a@example.com' });
export const welcome = post.define('welcome', {
  examples: { ada: { name: 'Ada' } },
  build: ({ name }: { name: string }) => ({
    to: 'ada@example.com',
    subject: name,
    text: '',
    attachments: [{ content: new Uint8Array(1) }],
  }),
});

export async function main(): Promise<string> {
  const sim = await simulate(tasks, { seed: 7 });
  const result = await mail.using({ runAfter: '1h' }).enqueue({ to: 'ada' });
  await sim.runUntilIdle();
  await sim.end();
  await explore(tasks, { seeds: 2 }, async () => {});
  return result.returnValue.sent;
}
