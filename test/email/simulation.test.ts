/** Mail in virtual time: the outbox, the simulated server and its faults, the matcher, and explorations. */
import { cancel, createTasks, memory, snooze } from 'escapement';
import { createMail, domainOf, queued } from 'escapement/email';
import { explore, simulate } from 'escapement/testing';
import { testTasks } from 'escapement/vitest';
import { createTransport } from 'nodemailer';
import { describe, expect, test as plain } from 'vitest';
import { z } from 'zod';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const tasks = createTasks({ backend: memory(), logger: quiet });
const unsubscribed = new Set<string>();
const mail = createMail(tasks, {
  transport: 'smtp://this.is.never.asked.invalid',
  from: 'Shop <shop@example.com>',
  suppress: (address) => unsubscribed.has(address) && 'unsubscribed',
});
const welcome = mail.define('welcome', {
  input: z.object({ userId: z.string(), at: z.string().optional() }),
  examples: { ada: { userId: 'ada' } },
  async build({ userId }, ctx) {
    if (userId === 'nobody') return null;
    if (userId === 'gone') return cancel('no such user');
    if (userId === 'later' && ctx.now().getUTCHours() < 8) return snooze('8h');
    return {
      to: `${userId}@example.org`,
      subject: 'Your trial ends',
      text: `Hello ${userId},\nthree days are over.`,
      html: '<p>Hello</p>',
    };
  },
});
const transport = queued(tasks, { transport: 'smtp://this.is.never.asked.invalid', retry: { backoff: '1m' } });
const test = testTasks(tasks);

describe('a simulation', () => {
  test('delivers a mail three days later to its outbox', async ({ sim }) => {
    await welcome.using({ runAfter: '3d' }).send({ userId: 'ada' });
    await sim.advance('2d');
    expect(sim.outbox).toEqual([]);
    expect(sim).not.toHaveSentMail();
    await sim.runUntilIdle();
    expect(sim).toHaveSentMail({ to: 'ada@example.org', subject: /trial/ }, { at: '+3d', times: 1 });
    expect(sim).toHaveSentMail({
      from: 'shop@example.com',
      text: /three days/,
      html: expect.stringContaining('<p>'),
      task: 'mail.welcome',
    });
    expect(sim.outbox[0]?.text).toMatchInlineSnapshot(`
      "Hello ada,
      three days are over."
    `);
    expect(sim.outbox[0]?.headers).toMatch(/^Date: Sun, 04 Jan 2026 00:00:00 \+0000$/m);
    expect(sim.timeline()).toMatchInlineSnapshot(`
      +0s  w0  started
      +0s      enqueued    mail.welcome#1 due in 3d
      +3d  w0  started     mail.welcome#1 attempt 1
      +3d  w0  note        mail.welcome attempt 1 mail to ada@example.org: accepted
      +3d  w0  info        mail.welcome#1 mail sent {"messageId":"<019b76da-a800-7000-8000-01ddd8f4ea79@example.com>","accepted":1,"refused":0}
      +3d  w0  successful  mail.welcome#1 attempt 1
    `);
  });

  test('captures mail sent through Nodemailer, with attachments', async ({ sim }) => {
    const mailer = createTransport(transport);
    const attachments = [{ filename: 'a.txt', content: Buffer.from('12345') }];
    await mailer.sendMail({ from: 'a@example.com', to: 'b@example.org', bcc: 'c@example.org', subject: 'Hi', text: 'there', attachments });
    await sim.drain();
    expect(sim).toHaveSentMail({ to: ['b@example.org', 'c@example.org'], text: 'there' });
    expect(sim.outbox[0]).toMatchObject({ to: ['b@example.org'], bcc: ['c@example.org'], attachments: [{ filename: 'a.txt', size: 5 }] });
  });

  test('skips mail without a recipient, and defers mail in quiet hours', async ({ sim }) => {
    const results = await welcome.sendMany([{ userId: 'nobody' }, { userId: 'gone' }, { userId: 'later' }]);
    await sim.runUntilIdle();
    for (const result of results) await result.refresh();
    expect(results.map(({ status, reason }) => [status, reason])).toEqual([
      ['cancelled', 'nothing to send'],
      ['cancelled', 'no such user'],
      ['successful', null],
    ]);
    expect(sim).toHaveSentMail({ to: 'later@example.org' }, { at: '+8h' });
  });

  test('retries a greylisting server', async ({ sim }) => {
    sim.smtp.reject(/@example\.org/, 451, { times: 1 });
    const result = await welcome.send({ userId: 'ada' });
    await sim.runUntilIdle();
    await expect(result).toHaveSucceeded({ attempts: 2 });
    expect(sim).toHaveSentMail({ to: 'ada@example.org' }, { at: '+1m' });
  });

  test('waits for a full mailbox as long as the server asks, and fails an unknown one immediately', async ({ sim }) => {
    sim.smtp.reject('full@example.org', 452, { text: 'mailbox full, try again in 2 hours', times: 1 });
    sim.smtp.reject(/^nosuch@/);
    const [full, none] = await welcome.sendMany([{ userId: 'full' }, { userId: 'nosuch' }]);
    await sim.runUntilIdle();
    await expect(full).toHaveSucceeded({ attempts: 2 });
    await expect(none).toHaveFailed({ reason: 'permanent', error: /550 no such user/ });
    expect(sim).toHaveSentMail({ to: 'full@example.org' }, { at: '+2h' });
  });

  test('retries a server that is down or slow', async ({ sim }) => {
    sim.smtp.down('5m');
    const result = await welcome.send({ userId: 'ada' });
    await sim.runUntilIdle();
    await expect(result).toHaveRetried();
    sim.smtp.slow('1h');
    const slow = await welcome.using({ retry: { maxAttempts: 1 } }).send({ userId: 'bob' });
    await sim.runUntilIdle();
    await expect(slow).toHaveFailed({ error: /took longer than its timeout of 2m/ });
    expect(sim.outbox).toHaveLength(1);
  });

  test('delivers a mail twice with the same Message-ID if the response was lost', async ({ sim }) => {
    sim.smtp.loseAnswers();
    const result = await welcome.send({ userId: 'ada' });
    await sim.runUntilIdle();
    expect(sim).toHaveSentMail({ messageId: `<${result.id}@example.com>` }, { times: 2 });
  });

  test('sends nothing twice if the worker dies after the server has responded', async ({ sim }) => {
    sim.crash({ at: 'before settle', task: 'mail.welcome' });
    const result = await welcome.send({ userId: 'ada' });
    await sim.runUntilIdle();
    await expect(result).toHaveSucceeded({ attempts: 2 });
    expect(sim.outbox).toHaveLength(1);
  });

  test('checks for suppressed addresses', async ({ sim }) => {
    unsubscribed.add('ada@example.org');
    const result = await welcome.send({ userId: 'ada' });
    await sim.runUntilIdle();
    unsubscribed.clear();
    expect(await result.refresh()).toMatchObject({ status: 'cancelled', reason: 'unsubscribed' });
    expect(sim).not.toHaveSentMail();
  });

  test("lists mail with its text in the application's outbox", async ({ sim }) => {
    const result = await welcome.using({ runAfter: '1h' }).send({ userId: 'ada' });
    expect(await mail.outbox.list()).toMatchObject([{ state: 'queued', subject: '', at: new Date(sim.now.getTime() + 3_600_000) }]);
    await mail.outbox.send(result.id);
    await sim.drain();
    expect(await mail.outbox.get(result.id)).toMatchObject({ state: 'sent', subject: 'Your trial ends', text: /three days/ });
  });
});

describe('rate limits', () => {
  const limited = createTasks({ backend: memory(), logger: quiet });
  const own = createMail(limited, { transport: 'smtp://this.is.never.asked.invalid', from: 'shop@example.com' });
  const news = own.define('news', {
    input: z.object({ email: z.string() }),
    unique: { within: '1h' },
    rate: { limit: 1, per: '1m', key: ({ email }) => domainOf(email) },
    build: ({ email }) => ({ to: email, subject: 'News', text: '' }),
  });
  const outgoing = queued(limited, { transport: 'smtp://this.is.never.asked.invalid', ratePerDomain: { limit: 1, per: '1m' } });
  const emails = ['a@one.example', 'B <b@One.example>', 'c@one.example', 'a@two.example'];
  const limitedTest = testTasks(limited);

  limitedTest('a mailable is limited by the domain in its input, and sent once', async ({ sim }) => {
    await news.sendMany(emails.map((email) => ({ email })));
    const again = await news.send({ email: 'a@two.example' });
    expect(again.duplicate).toBe(true);
    await sim.runUntilIdle();
    for (const [to, at] of [
      [/^a@one/, '+0s'],
      [/^b@one/i, '+1m'],
      [/^c@one/, '+2m'],
      [/two/, '+0s'],
    ] as const)
      expect(sim).toHaveSentMail({ to }, { at, times: 1 });
  });

  limitedTest('a message is limited by the domain of its first recipient', async ({ sim }) => {
    const mailer = createTransport(outgoing);
    for (const to of emails) await mailer.sendMail({ from: 'shop@example.com', to, subject: 'Hi', text: '' });
    await sim.runUntilIdle();
    for (const [to, at] of [
      [/^a@one/, '+0s'],
      [/^b@one/i, '+1m'],
      [/^c@one/, '+2m'],
      [/two/, '+0s'],
    ] as const)
      expect(sim).toHaveSentMail({ to }, { at, times: 1 });
  });
});

describe('toHaveSentMail', () => {
  const messageOf = (fn: () => void): string => {
    try {
      fn();
    } catch (error) {
      // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
      return (error as Error).message.replace(/\u001b\[\d+m/g, '');
    }
    return 'it passed';
  };

  test('shows the closest mail', async ({ sim }) => {
    await welcome.sendMany([{ userId: 'ada' }, { userId: 'bob' }]);
    await sim.advance('1m');
    expect(
      messageOf(() => expect(sim).toHaveSentMail({ to: 'bob@example.org', subject: /invoice/ }, { at: '+1m' })),
    ).toMatchInlineSnapshot(`
      "expect(sim).toHaveSentMail(mail)

      Expected the simulation to have sent an email like this.

        to: "bob@example.org"
        subject: /invoice/
        at: +1m

      The nearest of 2 differs:

        +0s bob@example.org: Your trial ends
        subject: expected /invoice/, got "Your trial ends"
        at: expected +1m, got +0s"
    `);
    expect(messageOf(() => expect(sim).not.toHaveSentMail({ to: /ada/ }))).toMatchInlineSnapshot(`
      "expect(sim).not.toHaveSentMail(mail)

      Expected the simulation not to have sent an email like this.

        to: /ada/

      It has sent:

        +0s ada@example.org: Your trial ends"
    `);
    expect(messageOf(() => expect(sim).toHaveSentMail({ subject: 'Your trial ends' }, { times: 1 }))).toMatchInlineSnapshot(`
      "expect(sim).toHaveSentMail(mail)

      Expected the simulation to have sent an email like this 1 time.

        subject: "Your trial ends"

      It has 2 times:

        +0s ada@example.org: Your trial ends
        +0s bob@example.org: Your trial ends"
    `);
  });

  test('names jobs that have not sent their mail', async ({ sim }) => {
    sim.smtp.reject(/ada/, 550);
    await welcome.send({ userId: 'ada' });
    await sim.drain();
    expect(messageOf(() => expect(sim).toHaveSentMail({ to: 'ada@example.org' }))).toMatchInlineSnapshot(`
      "expect(sim).toHaveSentMail(mail)

      Expected the simulation to have sent an email like this.

        to: "ada@example.org"

      It has sent no mail. 1 job of mail:

        mail.welcome: failed, refused: 550 no such user"
    `);
  });

  test('rejects unknown keys', async ({ sim }) => {
    expect(() => expect(sim).toHaveSentMail({ too: 'a' } as never)).toThrow(/too: expected one of to, cc/);
  });
});

describe('explorations', () => {
  /** The mail delivered in each run, in seed order. */
  const arrivals = async (seeds: number) => {
    const runs: string[] = [];
    let twice = 0;
    await explore(tasks, { seeds, workers: 2, for: '6h' }, async (sim) => {
      const users = Array.from({ length: 6 }, (_, i) => ({ userId: `a${i}` }));
      const results = await welcome.using({ retry: { maxAttempts: 200 } }).sendMany(users);
      return () => {
        const mails = sim.outbox.map(({ messageId, at }) => `${at.toISOString()} ${messageId}`);
        runs.push(mails.join('\n'));
        for (const { id } of results) {
          const count = mails.filter((mail) => mail.endsWith(` <${id}@example.com>`)).length;
          // A job that crashes three times in a row is failed as poisoned.
          const isPoisoned = sim.jobs({ task: welcome.task }).find((job) => job.id === id)?.reason === 'poisoned';
          if (!isPoisoned) expect(count, `arrivals of ${id}`).toBeGreaterThan(0);
          if (count > 1) twice += 1;
        }
        expect(sim.outbox.every(({ messageId }) => results.some(({ id }) => messageId === `<${id}@example.com>`))).toBe(true);
      };
    });
    return { runs, twice };
  };

  plain('every mail arrives under all faults, always with the same Message-ID, and some arrive twice', async () => {
    const seeds = process.env.ESCAPEMENT_LONG ? 40 : 20;
    const first = await arrivals(seeds);
    expect(first.twice).toBeGreaterThan(0);
    expect(await arrivals(seeds)).toEqual(first);
  });

  plain('the same seed sends the same mails', async () => {
    const played = async () => {
      await using sim = await simulate(tasks, { seed: 7, workers: 2 });
      sim.smtp.reject(/a[1-5]@/, 451, { times: 3 });
      await welcome.sendMany(Array.from({ length: 20 }, (_, i) => ({ userId: `a${i}` })));
      await sim.runUntilIdle();
      return String(sim.timeline());
    };
    expect(await played()).toBe(await played());
  });
});
