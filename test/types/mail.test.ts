/** Types flow from a mail's schema or its `build` to `send`. Checked by the compiler. */
import { createTasks, memory, type Task, type TaskResult } from 'escapement';
import { createMail, type Mailable, type MailMessage, type MailOutcome, queued } from 'escapement/email';
import { createTransport, type SendMailOptions } from 'nodemailer';
import { describe, expectTypeOf, test } from 'vitest';
import { z } from 'zod';

const tasks = createTasks({ backend: memory() });
const mail = createMail(tasks, { transport: 'smtp://localhost' });
const unrun = (_: () => unknown): void => {};

const withSchema = mail.define('with-schema', {
  input: z.object({ userId: z.string(), at: z.string().transform((text) => new Date(text)) }),
  examples: { ada: { userId: 'ada', at: '2026-01-01' } },
  build({ userId, at }, ctx) {
    expectTypeOf(at).toEqualTypeOf<Date>();
    expectTypeOf(ctx.attempt).toEqualTypeOf<number>();
    return { to: `${userId}@example.org` };
  },
});
const annotated = mail.define('annotated', { build: async ({ userId }: { userId: string }) => ({ to: userId }) });
const noInput = mail.define('no-input', { build: () => null });

describe('a mailable', () => {
  test("accepts its schema's input, or the annotated parameter of build", () => {
    expectTypeOf(withSchema).toEqualTypeOf<Mailable<{ userId: string; at: string }>>();
    expectTypeOf(annotated).toEqualTypeOf<Mailable<{ userId: string }>>();
    unrun(() => withSchema.send({ userId: 'a', at: '2026-01-01' }));
    // @ts-expect-error the schema's output is not its input
    unrun(() => withSchema.send({ userId: 'a', at: new Date() }));
    // @ts-expect-error the input is missing
    unrun(() => annotated.using({ runAfter: '3d' }).send());
    unrun(() => noInput.send());
    // @ts-expect-error no such field
    unrun(() => mail.define('typo', { build: () => ({ too: 'a' }) }));
    unrun(() =>
      // @ts-expect-error an example is an input
      mail.define('example', { input: z.object({ id: z.string() }), examples: { a: { id: 1 } }, build: () => null }),
    );
  });

  test('is a task, and returns a TaskResult from send', () => {
    expectTypeOf(annotated.task).toEqualTypeOf<Task<{ userId: string }, MailOutcome>>();
    unrun(async () => expectTypeOf(await annotated.send({ userId: 'a' })).toEqualTypeOf<TaskResult<MailOutcome, { userId: string }>>());
    unrun(() => tasks.schedule('daily', { task: noInput.task, cron: '0 9 * * *' }));
  });
});

test('the transport is a Nodemailer transport, and plain messages fit both', () => {
  const message = { to: [{ name: 'Ada', address: 'ada@example.org' }], subject: 'Hi', text: 'a', attachments: [{ path: 'a.pdf' }] };
  expectTypeOf(message).toExtend<MailMessage>();
  expectTypeOf(message).toExtend<SendMailOptions>();
  unrun(() => createTransport(queued(tasks, { transport: 'smtp://localhost' })).sendMail(message));
});
