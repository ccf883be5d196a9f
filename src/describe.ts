/** Describes a task's definition for tools, as plain data with all defaults applied. */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { backoffMs } from './core/backoff.ts';
import { type Definition, takesParameter } from './core/definition.ts';

/** A task as returned by `tasks.describe`. */
export interface TaskDescription {
  readonly name: string;
  /** The alias of the backend that its jobs are enqueued to. */
  readonly backend: string;
  readonly queue: string;
  readonly priority: number;
  readonly tags: readonly string[];
  /** The schema that validates its input, or null. */
  readonly schema: StandardSchemaV1 | null;
  /** Whether its function has a parameter for its input. A name that starts with `_` marks an ignored parameter. */
  readonly takesInput: boolean;
  readonly maxAttempts: number;
  /** The timeout of one attempt in milliseconds, or null. */
  readonly timeoutMs: number | null;
  /** Where its function runs, if not in the thread of its worker. */
  readonly isolate: 'thread' | 'process' | null;
  /**
   * The delays between attempts, in milliseconds and without jitter; the last one repeats. Null: a function of the application decides. At
   * most 100, and no more than are needed.
   */
  readonly waitsMs: readonly number[] | null;
}

const maxWaits = 100;

export function describe(definition: Definition): TaskDescription {
  const { name, backend, queue, priority, tags, schema, run, maxAttempts, timeoutMs, backoff, isolate } = definition;
  const attempts = Array.from({ length: Math.min(maxWaits, Math.max(1, maxAttempts - 1)) }, (_, i) => i + 1);
  // Custom policies are not called for inspection.
  const waitsMs = backoff.kind === 'own' ? null : attempts.map((attempt) => backoffMs(backoff, attempt, 0, undefined));
  return {
    name,
    backend,
    queue,
    priority,
    tags,
    schema,
    takesInput: takesParameter(run),
    maxAttempts,
    timeoutMs,
    isolate: isolate?.in ?? null,
    waitsMs,
  };
}
