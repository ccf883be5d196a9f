/**
 * `escapement/vitest`: the fixture, the matchers and the snapshot serializer. Importing it registers the last two. Add
 * `escapement/vitest/setup` to `setupFiles` in `vitest.config.ts` to make timers and dates that modules capture at load time follow virtual
 * time. Only uses the public entry points, so adapters for other test runners can do the same.
 */
import './register.ts';

export type { TaskTest, TestTasksOptions } from './fixture.ts';
export { testTasks } from './fixture.ts';
export type { Expected, Moment } from './matching.ts';
export type { EnqueuedOptions, ExpectedMail, FailedOptions, RetriedOptions, SentMailOptions, SucceededOptions } from './register.ts';
