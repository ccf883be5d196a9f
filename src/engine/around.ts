/** Middleware around every attempt, registered with `tasks.use`. */
import type { Definition, TaskContext } from '../core/definition.ts';
import { InputError } from '../core/errors.ts';

/**
 * Runs around every attempt of every task. Call `next` once; it resolves to what the task returned. If the middleware returns a value, that
 * value replaces the task's. If it throws, the attempt fails as if the task had thrown.
 */
export type AttemptMiddleware<Result = unknown> = (attempt: TaskContext<Result>, next: () => Promise<unknown>) => unknown;

/** Calls a task's function inside its middleware. */
export function runAround(around: readonly AttemptMiddleware[], definition: Definition, input: unknown, context: TaskContext): unknown {
  const step = async (i: number): Promise<unknown> => {
    const middleware = around[i];
    if (middleware === undefined) return definition.run(input, context);
    let inner: Promise<unknown> | undefined;
    const value = await middleware(context, () => {
      if (inner !== undefined) return Promise.reject(new InputError(`${context.task}: a tasks.use() middleware called next() twice`));
      inner = step(i + 1);
      // Awaited below even if the middleware does not await it.
      inner.catch(() => {});
      return inner;
    });
    // Most middleware does not return a value.
    return value === undefined ? await inner : value;
  };
  return step(0);
}
