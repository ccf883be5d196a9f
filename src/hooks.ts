/** Middleware round every enqueue, as `tasks.useEnqueue` registers it. Middleware round attempts is in `engine/around`. */
import { isThenable } from './core/duration.ts';
import { InputError } from './core/errors.ts';
import type { TaskResult } from './result.ts';

/** An enqueue, which middleware may change before it calls `next`. */
export interface EnqueueRequest {
  /** The name of the task. */
  readonly task: string;
  /** One for each job. */
  inputs: readonly unknown[];
  /** Kept on each of the jobs, beside what `using` gave. */
  metadata: Record<string, unknown>;
  tags: readonly string[];
  /** The enqueue joins a transaction of the caller. In a synchronous one, middleware must not return a promise. */
  readonly inTransaction: boolean;
}

/** Runs round every `enqueue` and `enqueueMany`. `next` makes the jobs, and returns their results; in a caller's transaction at once. */
export type EnqueueMiddleware = (request: EnqueueRequest, next: () => TaskResult[] | Promise<TaskResult[]>) => unknown;

/**
 * Runs an enqueue through the middleware of its application.
 * @param make makes the jobs of the request
 * @param mayWait false: the caller's transaction is synchronous
 */
export function throughMiddleware<Results extends TaskResult[] | Promise<TaskResult[]>>(
  request: EnqueueRequest,
  around: readonly EnqueueMiddleware[],
  make: (request: EnqueueRequest) => Results,
  mayWait: boolean = !request.inTransaction,
): Results {
  const step = (i: number): Results => {
    const middleware = around[i];
    if (!middleware) return make(request);
    let inner: Results | undefined;
    const returned = middleware(request, () => {
      if (inner) throw new InputError(`${request.task}: a middleware of tasks.useEnqueue() called next() twice`);
      inner = step(i + 1);
      return inner;
    });
    if (isThenable(returned)) {
      if (!mayWait) {
        returned.then(undefined, () => {});
        throw new InputError(
          `${request.task}: a middleware of tasks.useEnqueue() returned a promise, for which a synchronous transaction cannot wait`,
        );
      }
      return Promise.resolve(returned).then(() => inner ?? refused(request)) as Results;
    }
    return inner ?? refused(request);
  };
  return step(0);
}

function refused({ task }: EnqueueRequest): never {
  throw new InputError(`${task}: a middleware of tasks.useEnqueue() did not call next(); throw an error to refuse an enqueue`);
}
