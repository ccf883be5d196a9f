/** The options of a task's definition. */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { defaultBackoff } from '../core/backoff.ts';
import type { Definition, Isolation } from '../core/definition.ts';
import { isClass, isGenerator, show } from '../core/duration.ts';
import { callingModule, moduleUrl } from '../isolate/caller.ts';
import { type Known, readJobOptions } from './job.ts';
import { readConcurrency, readRate, readUnique } from './limits.ts';
import { jobKeys, knownQueues, limitKeys, nearest } from './names.ts';
import { OptionReader } from './reader.ts';
import { kept } from './retention.ts';
import type { TaskListeners } from './types.ts';
import { noTags } from './using.ts';

const moduleExpected = '`import.meta.url` of the module that defines the task, as a file URL';

function readIsolate(read: OptionReader, value: unknown): Isolation | null {
  if (value === undefined) return null;
  const given: Record<string, unknown> = typeof value === 'string' ? { in: value } : read.object(value, 'isolate', ['in', 'module']);
  const where = given.in === 'thread' || given.in === 'process' ? given.in : read.fault('isolate', "'thread' or 'process'", given.in);
  const module = given.module === undefined ? callingModule() : moduleUrl(given.module);
  if (module === undefined) {
    const got = given.module ?? 'a call that is not in a file';
    read.fault('isolate.module', moduleExpected, got);
  }
  return where && module !== undefined ? { in: where, module } : null;
}

/** A task's handle is a function too, but calling it only throws an error. */
function isTask(value: unknown): value is { readonly name: string } {
  return typeof value === 'function' && typeof (value as { enqueueMany?: unknown }).enqueueMany === 'function';
}

/** Parses the options of a task's definition. */
export function readDefinition(name: unknown, options: unknown, defaults: unknown, known: Known): Definition & TaskListeners {
  const read = new OptionReader(`Invalid definition of task ${show(name)}`);
  const given = read.object(typeof options === 'function' ? { run: options } : options, '', [
    ...jobKeys,
    ...limitKeys,
    'onSuccess',
    'onFailure',
    'input',
    'isolate',
    'run',
  ]);
  const fallback = readJobOptions(read, read.object(defaults, 'defaults', jobKeys), 'defaults', known);
  const own = readJobOptions(read, given, '', known);
  if (isTask(given.run)) read.fault('run', `the function that does the work`, `the task ${given.run.name}; enqueue it from that function`);
  else if (typeof given.run !== 'function' || isGenerator(given.run) || isClass(given.run))
    read.fault('run', 'the function that does the work, async or not', given.run);
  const schema = given.input as StandardSchemaV1 | undefined;
  if (schema !== undefined && typeof (schema as Partial<StandardSchemaV1> | null)?.['~standard']?.validate !== 'function') {
    read.fault('input', 'a Standard Schema, such as one of zod, valibot or arktype', schema);
  }
  const definition: Definition & TaskListeners = {
    name: read.name(name, 'name'),
    backend: own.backend ?? fallback.backend ?? 'default',
    queue: own.queue ?? fallback.queue ?? 'default',
    priority: own.priority ?? fallback.priority ?? 0,
    schema: schema ?? null,
    maxAttempts: own.maxAttempts ?? fallback.maxAttempts ?? 20,
    backoff: own.backoff ?? fallback.backoff ?? defaultBackoff,
    retryable: own.retryable ?? fallback.retryable ?? null,
    timeoutMs: own.timeoutMs ?? fallback.timeoutMs ?? null,
    expires: own.expires ?? fallback.expires ?? null,
    tags: own.tags ?? fallback.tags ?? noTags,
    retention: kept(fallback.retention, own.retention),
    unique: readUnique(read, given.unique, 'unique') ?? null,
    concurrency: readConcurrency(read, given.concurrency, 'concurrency'),
    rate: readRate(read, given.rate, 'rate', ['key']),
    isolate: readIsolate(read, given.isolate),
    onSuccess: read.listener(given.onSuccess, 'onSuccess'),
    onFailure: read.listener(given.onFailure, 'onFailure'),
    run: given.run as Definition['run'],
  };
  if (known.queues && !known.queues.includes(definition.queue) && read.faults.length === 0) {
    const expected =
      given.queue === undefined ? `${knownQueues(known.queues)}, or add default to the queues of createTasks()` : knownQueues(known.queues);
    read.fault('queue', expected, definition.queue, nearest(definition.queue, known.queues));
  }
  read.done();
  return definition;
}
