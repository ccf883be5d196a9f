/** The public signatures of the matchers and their registration with Vitest, including a snapshot serializer for timelines. */
import type { Duration, Status, Task, TaskResult } from 'escapement';
import type { Simulation, Timeline } from 'escapement/testing';
import { expect } from 'vitest';
import { toHaveEnqueued } from './enqueued.ts';
import { toHaveSentMail } from './mail.ts';
import type { Expected, Moment } from './matching.ts';
import { toBeScheduledAt, toHaveFailed, toHaveRetried, toHaveStepped, toHaveSucceeded } from './outcome.ts';
import { toHaveRun, toHaveRunAt } from './runs.ts';

/** Further conditions of `toHaveEnqueued`. */
export interface EnqueuedOptions {
  /** `runAfter` − `enqueuedAt`, to the millisecond. `0` for a job without `runAfter`. */
  in?: Duration;
  queue?: string;
  priority?: number;
  /** Tags that the job must have; it may have others. */
  tags?: readonly string[];
  /** The current status must be one of these. */
  status?: Status | readonly Status[];
  /**
   * Exact number of matching jobs.
   * @default at least one
   */
  times?: number;
}

/** Further conditions of `toHaveSucceeded`. */
export interface SucceededOptions<Output> {
  attempts?: number;
  /** The return value of the task, matched as a subset. */
  returnValue?: Expected<Output>;
  /** @deprecated Use `returnValue`. */
  value?: Expected<Output>;
}

/** Further conditions of `toHaveFailed`. */
export interface FailedOptions {
  /** A text that the last error, formatted as `name: message`, includes, or a pattern that it matches. */
  error?: string | RegExp;
  attempts?: number;
  /** For example `'poisoned'` or `'permanent'`. */
  reason?: string;
}

/** Further conditions of `toHaveRetried`. */
export interface RetriedOptions {
  /**
   * Exact number of retries.
   * @default at least one
   */
  times?: number;
}

type MailText = string | RegExp | { asymmetricMatch(other: unknown): boolean };

/**
 * Conditions of `toHaveSentMail`. A string must equal the whole value; a pattern may match anywhere in it. For addresses, one of the mail's
 * must match; for an array, each element must match one.
 */
export interface ExpectedMail {
  to?: MailText | readonly MailText[];
  cc?: MailText | readonly MailText[];
  bcc?: MailText | readonly MailText[];
  from?: MailText;
  subject?: MailText;
  text?: MailText;
  html?: MailText;
  headers?: MailText | readonly MailText[];
  messageId?: MailText;
  /** The name of the task, such as `mail.welcome`. */
  task?: MailText;
}

/** Further conditions of `toHaveSentMail`. */
export interface SentMailOptions {
  /** When the server accepted it. */
  at?: Moment;
  /** Exact number of matching mails. @default at least one */
  times?: number;
}

type AnyTask = { readonly name: string; readonly enqueue: unknown; readonly getResult: unknown };

declare module 'vitest' {
  interface Matchers<R extends void | Promise<void> = void | Promise<void>, T = unknown> {
    /**
     * On a simulation: it has enqueued a job of this task whose input contains `input`. On a TaskResult: one of its job's attempts has.
     * Finished jobs count. On a TaskResult it reads the store and returns a promise.
     * @example expect(sim).toHaveEnqueued(sendWelcome, { userId: 'ada' }, { in: '1h', queue: 'mail' });
     * @example await expect(order).toHaveEnqueued(sendReceipt, { orderId: 7 });
     */
    toHaveEnqueued: T extends Simulation
      ? <Input>(task: Task<Input, unknown>, input?: NoInfer<Expected<Input>>, options?: EnqueuedOptions) => R
      : T extends TaskResult
        ? <Input>(task: Task<Input, unknown>, input?: NoInfer<Expected<Input>>, options?: EnqueuedOptions) => Promise<void>
        : never;
    /**
     * The simulation's mail server has accepted a matching mail.
     * @example expect(sim).toHaveSentMail({ to: 'ada@example.com', subject: /trial/ }, { at: '+3d' });
     */
    toHaveSentMail: T extends Simulation ? (expected?: ExpectedMail, options?: SentMailOptions) => R : never;
    /**
     * Attempts of the task have started: exactly `times`, or at least one. All attempts count, including failed and snoozed ones.
     * @example
     * expect(sim).toHaveRun(sendWelcome, 2);
     * expect(sendWelcome).toHaveRun(2);
     */
    toHaveRun: T extends Simulation ? (task: AnyTask, times?: number) => R : T extends AnyTask ? (times?: number) => R : never;
    /**
     * Attempts of the task have started at exactly these moments.
     * @example expect(digest).toHaveRunAt(['+0s', '+10m', '2026-01-01T00:20:00Z']);
     */
    toHaveRunAt: T extends AnyTask ? (moments: readonly Moment[]) => R : never;
    /**
     * The job was successful. Refreshes the result.
     * @example await expect(result).toHaveSucceeded({ attempts: 1, returnValue: { sent: true } });
     */
    toHaveSucceeded: T extends TaskResult<infer Output, unknown> ? (options?: SucceededOptions<Output>) => Promise<void> : never;
    /**
     * The job failed for good. Refreshes the result.
     * @example await expect(result).toHaveFailed({ error: /ECONNREFUSED/, attempts: 5 });
     */
    toHaveFailed: T extends TaskResult ? (options?: FailedOptions) => Promise<void> : never;
    /**
     * Attempts of the job failed and were, or will be, retried; a lost lease counts, a snooze does not. Refreshes the result.
     * @example await expect(result).toHaveRetried({ times: 2 });
     */
    toHaveRetried: T extends TaskResult ? (options?: RetriedOptions) => Promise<void> : never;
    /**
     * The job has recorded exactly these steps, in this order. Sleeps and signals are ignored. Reads the store.
     * @example await expect(result).toHaveStepped(['charge', 'ship']);
     */
    toHaveStepped: T extends TaskResult ? (names: readonly string[]) => Promise<void> : never;
    /**
     * The job is waiting and may start next at this moment: a first attempt, a retry, or after a snooze. Refreshes the result.
     * @example await expect(result).toBeScheduledAt('+1h');
     */
    toBeScheduledAt: T extends TaskResult ? (moment: Moment) => Promise<void> : never;
  }
}

expect.extend({
  toHaveEnqueued,
  toHaveRun,
  toHaveRunAt,
  toHaveSucceeded,
  toHaveFailed,
  toHaveRetried,
  toHaveStepped,
  toBeScheduledAt,
  toHaveSentMail,
});

expect.addSnapshotSerializer({
  test: (value: unknown) => isTimeline(value),
  serialize: ({ lines }: Timeline, _, indentation) => {
    const text = lines.length > 0 ? lines : ['(nothing has happened)'];
    // Nested inside another value, the timeline starts on a new line, which keeps its columns aligned.
    return indentation === '' ? text.join('\n') : text.map((each) => `\n${indentation}  ${each}`).join('');
  },
});

function isTimeline(value: unknown): value is Timeline {
  return (
    typeof value === 'object' && value !== null && Object.hasOwn(value, 'toString') && Array.isArray((value as Partial<Timeline>).lines)
  );
}
