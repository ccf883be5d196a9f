/**
 * `escapement/vitest`: the fixture, the matchers and the snapshot serializer. To import it is to register the last two.
 * `escapement/vitest/setup`, in `setupFiles` of `vitest.config.ts`, lets timers and dates that modules capture when they are loaded follow virtual time.
 * Made of the public entry points alone: whatever it does, an adapter for another test runner can do as well.
 */
import './register.ts';

export type { TaskTest, TestTasksOptions } from './fixture.ts';
export { testTasks } from './fixture.ts';
export type { Expected, Moment } from './matching.ts';
export type { EnqueuedOptions, ExpectedMail, FailedOptions, RetriedOptions, SentMailOptions, SucceededOptions } from './register.ts';
