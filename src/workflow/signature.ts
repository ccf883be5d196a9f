/** A task with an input and options, as a part of a workflow. */
import { OptionReader } from '../options/reader.ts';
import type { Task, TaskHandle } from '../task.ts';

/** Options of a part of a workflow. */
export interface PartOptions<Output = never> {
  /**
   * The part's name within its workflow.
   * @default the name of its task, followed by `#2`, `#3` … if it repeats
   */
  key?: string;
  /** The parts that wait for it proceed even if it fails or is cancelled; they get null as its value. */
  allowFailure?: boolean;
  /** It runs when all the parts that it waits for have ended, regardless of how. */
  always?: boolean;
  /** A task that undoes the part if the workflow fails after the part succeeded. Its input is what the part returned. */
  compensate?: Task<Output, unknown>;
}

export declare const output: unique symbol;

/** A task with an input, as a part of a workflow. Created by `task.with(input)`. */
export interface Signature<Output = unknown> {
  readonly task: string;
  readonly [output]?: Output;
}

/** The implementation of a signature. */
export class SignatureOf<Output> implements Signature<Output> {
  readonly handle: TaskHandle<unknown, Output>;
  /** Undefined: it receives what the parts before it return. */
  readonly input: unknown;
  readonly options: PartOptions<Output>;

  constructor(handle: TaskHandle<unknown, Output>, input: unknown, options: unknown) {
    this.handle = handle;
    this.input = input;
    this.options = readPartOptions(options, `with() of ${handle.name}`) as PartOptions<Output>;
  }

  get task(): string {
    return this.handle.name;
  }
}

const partKeys: readonly string[] = ['key', 'allowFailure', 'always', 'compensate'];

/** @throws ConfigError */
export function readPartOptions(options: unknown, call: string, more: readonly string[] = []): PartOptions<unknown> {
  if (options === undefined) return {};
  const read = new OptionReader(`Invalid options for ${call}`);
  const given = read.object(options, '', [...partKeys, ...more]);
  for (const name of ['allowFailure', 'always'] as const)
    if (given[name] !== undefined && typeof given[name] !== 'boolean') read.fault(name, 'true or false', given[name]);
  if (given.key !== undefined) read.name(given.key, 'key');
  if (given.compensate !== undefined && !isTask(given.compensate)) read.fault('compensate', 'a task', given.compensate);
  read.done();
  return given as PartOptions<unknown>;
}

function isTask(value: unknown): boolean {
  return typeof value === 'function' && typeof (value as Partial<Task>).enqueueMany === 'function';
}
