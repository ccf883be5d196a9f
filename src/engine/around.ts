/** Middleware round every attempt, as `tasks.use` registers it. */
import type { Definition, TaskContext } from '../core/definition.ts';
import { InputError } from '../core/errors.ts';

/**
 * Runs round every attempt of every task. Call `next` once; it resolves to what the task returned. A value that the middleware returns takes its
 * place; an error that it throws fails the attempt, like an error of the task.
 */
export type AttemptMiddleware<Result = unknown> = (attempt: TaskContext<Result>, next: () => Promise<unknown>) => unknown;

/** Calls a task's function, with middleware round it. */
export function runAround(around: readonly AttemptMiddleware[], definition: Definition, input: unknown, context: TaskContext): unknown {
  const step = async (i: number): Promise<unknown> => {
    const middleware = around[i];
    if (middleware === undefined) return definition.run(input, context);
    let inner: Promise<unknown> | undefined;
    const value = await middleware(context, () => {
      if (inner !== undefined) return Promise.reject(new InputError(`${context.task}: a middleware of tasks.use() called next() twice`));
      inner = step(i + 1);
      // Awaited below, also if the middleware does not wait for it.
      inner.catch(() => {});
      return inner;
    });
    // Most middleware does not pass the value on.
    return value === undefined ? await inner : value;
  };
  return step(0);
}
