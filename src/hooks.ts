/** Middleware around every enqueue, registered with `tasks.useEnqueue`. Middleware around attempts is in `engine/around`. */
import { isThenable } from './core/duration.ts';
import { InputError } from './core/errors.ts';
import type { TaskResult } from './result.ts';

/** An enqueue, which middleware may change before it calls `next`. */
export interface EnqueueRequest {
  /** The name of the task. */
  readonly task: string;
  /** One input per job. */
  inputs: readonly unknown[];
  /** Stored with each of the jobs, in addition to the metadata of `using`. */
  metadata: Record<string, unknown>;
  tags: readonly string[];
  /** True if the enqueue joins a transaction of the caller. In a synchronous transaction, middleware must not return a promise. */
  readonly inTransaction: boolean;
}

/**
 * Runs around every `enqueue` and `enqueueMany`. `next` creates the jobs and returns their results, synchronously in a caller's synchronous
 * transaction.
 */
export type EnqueueMiddleware = (request: EnqueueRequest, next: () => TaskResult[] | Promise<TaskResult[]>) => unknown;

/**
 * Runs an enqueue through the application's middleware.
 * @param make creates the jobs of the request
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
      if (inner) throw new InputError(`${request.task}: a tasks.useEnqueue() middleware called next() twice`);
      inner = step(i + 1);
      return inner;
    });
    if (isThenable(returned)) {
      if (!mayWait) {
        returned.then(undefined, () => {});
        throw new InputError(
          `${request.task}: a tasks.useEnqueue() middleware returned a promise, which a synchronous transaction cannot await`,
        );
      }
      return Promise.resolve(returned).then(() => inner ?? refused(request)) as Results;
    }
    return inner ?? refused(request);
  };
  return step(0);
}

function refused({ task }: EnqueueRequest): never {
  throw new InputError(`${task}: a tasks.useEnqueue() middleware did not call next(); throw an error to reject an enqueue`);
}
