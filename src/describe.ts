/** What a task's definition says, for tools: plain data, read with all defaults. */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { backoffMs } from './core/backoff.ts';
import type { Definition } from './core/definition.ts';

/** A task as `tasks.describe` tells it. */
export interface TaskDescription {
  readonly name: string;
  /** The alias of the backend that its jobs are enqueued to. */
  readonly backend: string;
  readonly queue: string;
  readonly priority: number;
  readonly tags: readonly string[];
  /** What its input is checked by, or null. */
  readonly schema: StandardSchemaV1 | null;
  /** Its function takes a parameter for its input; what begins with `_` is there to be ignored. */
  readonly takesInput: boolean;
  readonly maxAttempts: number;
  /** Of one attempt, in milliseconds; null: none. */
  readonly timeoutMs: number | null;
  /**
   * The waits between attempts, in milliseconds and without jitter, of which the last one repeats; null: a function of the application's decides.
   * At most 100, and no more than there are.
   */
  readonly waitsMs: readonly number[] | null;
}

const maxWaits = 100;

export function describe(definition: Definition): TaskDescription {
  const { name, backend, queue, priority, tags, schema, run, maxAttempts, timeoutMs, backoff } = definition;
  const attempts = Array.from({ length: Math.min(maxWaits, Math.max(1, maxAttempts - 1)) }, (_, i) => i + 1);
  // Own policies are not called to look at them.
  const waitsMs = backoff.kind === 'own' ? null : attempts.map((attempt) => backoffMs(backoff, attempt, 0, undefined));
  return { name, backend, queue, priority, tags, schema, takesInput: takesInput(run), maxAttempts, timeoutMs, waitsMs };
}

/** A function that takes only what it ignores takes nothing; the same of one with a default, whose `length` is 0. */
function takesInput(run: Definition['run']): boolean {
  return run.length > 0 && !/^(?:async\s+)?(?:function\s*)?[\w$]*\s*\(?\s*_/.test(Function.prototype.toString.call(run));
}
