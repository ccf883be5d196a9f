/** `node:timers/promises` on virtual timers, as documented by Node.js: a promise, an asynchronous iterator, and signals that abort both. */
import type { AnyFunction } from './globals.ts';
import { refuse } from './refuse.ts';

interface Options {
  readonly signal?: AbortSignal | undefined;
  readonly ref?: boolean | undefined;
}

type Arm = (fn: AnyFunction, delay: unknown, repeat: boolean) => NodeJS.Timeout;

export interface VirtualTimersPromises {
  setTimeout<T>(delay?: number, value?: T, options?: Options): Promise<T>;
  setInterval<T>(delay?: number, value?: T, options?: Options): AsyncIterableIterator<T>;
}

export function virtualTimersPromises(arm: Arm): VirtualTimersPromises {
  return {
    async setTimeout(delay, value, options = {}) {
      const { signal, ref = true } = checked(delay, options);
      if (signal?.aborted) throw abortError(signal);
      return new Promise((resolve, reject) => {
        const fire = () => {
          signal?.removeEventListener('abort', onAbort);
          resolve(value as never);
        };
        const timer = arm(Object.assign(fire, { [refuse]: reject }), delay, false);
        if (!ref) timer.unref();
        const onAbort = () => {
          timer.close();
          reject(abortError(signal as AbortSignal));
        };
        signal?.addEventListener('abort', onAbort, { once: true });
      });
    },
    async *setInterval(delay, value, options = {}) {
      const { signal, ref = true } = checked(delay, options);
      let due = 0;
      let wake = () => {};
      const timer = arm(
        () => {
          due += 1;
          wake();
        },
        delay,
        true,
      );
      if (!ref) timer.unref();
      const onAbort = () => wake();
      signal?.addEventListener('abort', onAbort, { once: true });
      try {
        for (;;) {
          if (signal?.aborted) throw abortError(signal);
          for (; due > 0; due--) yield value as never;
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (due > 0 || signal?.aborted) resolve();
          });
        }
      } finally {
        timer.close();
        signal?.removeEventListener('abort', onAbort);
      }
    },
  };
}

/** @throws TypeError for arguments that Node.js refuses too */
function checked(delay: unknown, options: unknown): Options {
  if (delay !== undefined && typeof delay !== 'number')
    throw invalid(`The "delay" argument must be of type number. Received ${typeof delay}`);
  if (options === null || typeof options !== 'object')
    throw invalid(`The "options" argument must be of type object. Received ${typeof options}`);
  const { signal, ref } = options as Options;
  if (signal !== undefined && (typeof signal !== 'object' || !('aborted' in signal)))
    throw invalid('The "options.signal" property must be an instance of AbortSignal.');
  if (ref !== undefined && typeof ref !== 'boolean') throw invalid('The "options.ref" property must be of type boolean.');
  return options as Options;
}

function invalid(message: string): TypeError {
  return Object.assign(new TypeError(message), { code: 'ERR_INVALID_ARG_TYPE' });
}

/** Node's own AbortError is not accessible; this one has its name, code and cause. */
function abortError(signal: AbortSignal): Error {
  const error = new Error('The operation was aborted', { cause: signal.reason });
  return Object.assign(error, { name: 'AbortError', code: 'ABORT_ERR' });
}
