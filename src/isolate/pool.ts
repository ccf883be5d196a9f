/**
 * Runs tasks' functions in separate threads or processes, one run in each at a time. A thread that has loaded a module is reused for its
 * tasks. If an attempt ends before its function does, because of its timeout, a cancellation or the loss of its lease, the function has a
 * second to react to its signal. Then its thread is killed, whatever it is doing.
 */
import type { Definition, TaskContext } from '../core/definition.ts';
import type { AttemptError } from '../core/errors.ts';
import { decode } from '../core/json.ts';
import { cancel, snooze } from '../core/outcomes.ts';
import type { RunningAttempt } from '../engine/attempt.ts';
import type { Isolate } from '../engine/host.ts';
import { systemClock, type Timer } from '../ports/clock.ts';
import { type Channel, openChannel } from './channel.ts';
import { crossing, made } from './crossing.ts';
import type { Ended, FromInside, Method } from './messages.ts';

/** How long a function has to react to its signal. */
const graceMs = 1_000;
/** How long a function has after the signal of a stopping worker. Its outcome counts during this time. */
const stopGraceMs = 5_000;
/** The maximum number of idle threads and processes kept for later runs. */
const maxIdle = 8;

export class Pool implements Isolate {
  /** By kind and by the module that they have loaded. */
  readonly #idle: Place[] = [];
  readonly #all = new Set<Place>();

  run(definition: Definition, attempt: RunningAttempt, context: TaskContext): Promise<unknown> {
    const place = this.#placeFor(definition);
    return place.run(attempt, context, () => {
      if (this.#idle.length < maxIdle) this.#idle.push(place);
      else place.kill();
    });
  }

  close(): void {
    for (const place of this.#all) place.kill();
  }

  #placeFor({ isolate }: Definition): Place {
    if (!isolate) throw new Error('the task is not isolated');
    const at = this.#idle.findIndex(({ in: where, module }) => where === isolate.in && module === isolate.module);
    const [found] = at < 0 ? [] : this.#idle.splice(at, 1);
    if (found) return found;
    const place = new Place(isolate, () => {
      this.#all.delete(place);
      const idleAt = this.#idle.indexOf(place);
      if (idleAt >= 0) this.#idle.splice(idleAt, 1);
    });
    this.#all.add(place);
    return place;
  }
}

/** A thread or process. */
class Place {
  readonly in: 'thread' | 'process';
  readonly module: string;
  readonly #channel: Channel;
  #run: Run | undefined;
  #isGone = false;

  constructor(isolate: NonNullable<Definition['isolate']>, forget: () => void) {
    this.in = isolate.in;
    this.module = isolate.module;
    this.#channel = openChannel(isolate, {
      heard: (message) => this.#run?.heard(message),
      gone: (error) => {
        this.#isGone = true;
        forget();
        this.#run?.gone(error);
      },
    });
  }

  /** @param free called when another run may use it */
  run(attempt: RunningAttempt, context: TaskContext, free: () => void): Promise<unknown> {
    this.#channel.busy();
    const run = new Run(this.#channel, this, attempt, context);
    this.#run = run;
    return run.start().finally(() => {
      this.#run = undefined;
      if (this.#isGone) return;
      this.#channel.idle();
      free();
    });
  }

  kill(): void {
    this.#channel.kill();
  }
}

/** One run of a task's function. */
class Run {
  readonly #channel: Channel;
  readonly #place: Pick<Place, 'in' | 'module'>;
  readonly #attempt: RunningAttempt;
  readonly #context: TaskContext;
  /** The tries of steps that are in progress inside, by the call of the step. */
  readonly #pendingCalls = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #settle!: { resolve(value: unknown): void; reject(error: unknown): void };
  #killed: Timer | undefined;

  constructor(channel: Channel, where: Pick<Place, 'in' | 'module'>, attempt: RunningAttempt, context: TaskContext) {
    this.#channel = channel;
    this.#place = where;
    this.#attempt = attempt;
    this.#context = context;
  }

  async start(): Promise<unknown> {
    const ended = new Promise<unknown>((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#channel.post({ kind: 'run', job: this.#attempt.job });
    const forget = this.#attempt.onAbort((error) => this.#abort(error));
    try {
      return await ended;
    } finally {
      forget();
      this.#killed?.cancel();
    }
  }

  /** The thread or process has ended or was killed. */
  gone(error: unknown): void {
    this.#settle.reject(error);
  }

  heard(message: FromInside): void {
    switch (message.kind) {
      case 'ended':
        this.#ended(message.ended);
        break;
      case 'call':
        void this.#answer(message.call, message.method, message.values);
        break;
      case 'tried': {
        const found = this.#pendingCalls.get(message.call);
        if (message.error) found?.reject(made(message.error));
        else found?.resolve(message.value);
        break;
      }
      case 'log':
        this.#attempt.notes.log(message.level, message.message, message.fields);
        break;
      case 'metadata':
        this.#attempt.notes.setMetadata(message.key, message.value);
        break;
      case 'progress':
        this.#attempt.notes.report(message.fraction, message.message);
        break;
      case 'unloadable': {
        const { name, message: text, stack } = message.error;
        const error = this.#refused(`cannot be loaded there: ${name}: ${text}`);
        if (stack) error.stack = stack;
        this.#settle.reject(error);
        this.#channel.kill();
      }
    }
  }

  #ended(ended: Ended): void {
    if (ended.kind === 'failed') this.#settle.reject(made(ended.error));
    else if (ended.kind === 'undefined') {
      const example = `isolate: { in: '${this.#place.in}', module: import.meta.url }`;
      this.#settle.reject(
        this.#refused(
          `does not define it when it is loaded. Define it at the top level of that module, or name the module that does: ${example}`,
        ),
      );
    } else if (ended.kind === 'done') this.#settle.resolve(ended.value === null ? undefined : decode(ended.value));
    else this.#settle.resolve(ended.kind === 'snoozed' ? snooze(ended.delayMs) : cancel(ended.reason));
  }

  #refused(why: string): Error {
    const { in: where, module } = this.#place;
    return new Error(`${this.#attempt.job.task} cannot run in a ${where}: ${module} ${why}`);
  }

  #abort({ name, message }: AttemptError): void {
    this.#channel.post({ kind: 'abort', name, message });
    this.#killed = systemClock.after(name === 'ShutdownError' ? stopGraceMs : graceMs, () => this.#channel.kill());
  }

  async #answer(call: number, method: Method, values: readonly unknown[]): Promise<void> {
    try {
      const value = await this.#called(call, method, values);
      this.#channel.post({ kind: 'answer', call, value });
    } catch (error) {
      this.#channel.post({ kind: 'answer', call, error: crossing(error) });
    } finally {
      this.#pendingCalls.delete(call);
    }
  }

  #called(call: number, method: Method, values: readonly unknown[]): Promise<unknown> {
    const [first, second] = values;
    const context = this.#context;
    switch (method) {
      case 'sleep':
        return context.sleep(first as number);
      case 'blob':
        return context.blob(first as string);
      case 'saveBlob':
        return context.saveBlob(first as string, second as Uint8Array);
      case 'waitFor':
        return context.waitFor(first as string, second as object);
      case 'step':
        return context.step(first as string, (step) => this.#try(call, step), second as object | undefined);
    }
  }

  #try(call: number, { id, attempt, signal }: { id: string; attempt: number; signal: AbortSignal }): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#pendingCalls.set(call, { resolve, reject });
      signal.addEventListener('abort', () => {
        const { name, message } = signal.reason as Error;
        this.#channel.post({ kind: 'abortTry', call, name, message });
      });
      this.#channel.post({ kind: 'try', call, step: { id, attempt } });
    });
  }
}
