/** Redirects console output of the module to stderr while it is loaded and played: stdout is reserved for the report, which is identical for the same seed. */
import { Console } from 'node:console';
import { Writable } from 'node:stream';
import type { Logger } from 'escapement';
import type { Output } from './io.ts';

const loggerKey = Symbol.for('escapement.logger');
const duplicateKey = Symbol.for('escapement.duplicatesEvent');

/**
 * Captures the engine's log of applications without a logger, except messages that events report too. Call it before the module is loaded,
 * because its definitions may cause warnings.
 * @returns a function that restores the default logger
 */
export function captureLogger(
  write: (level: 'info' | 'warn' | 'error', fields: Readonly<Record<string, unknown>>, message: string) => void,
): () => void {
  const home = globalThis as { [loggerKey]?: Logger | undefined };
  const line = (level: 'info' | 'warn' | 'error') => (fields: object, message: string) => {
    if (!(duplicateKey in fields)) write(level, { ...fields }, message);
  };
  home[loggerKey] = { debug() {}, info: line('info'), warn: line('warn'), error: line('error') };
  return () => {
    home[loggerKey] = undefined;
  };
}

/** @param before called before each write @returns a function that restores the console */
export function captureConsole(stderr: Output, before: () => void): () => void {
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      before();
      stderr.write(chunk);
      done();
    },
  });
  const own = new Console(stream) as unknown as Record<string, unknown>;
  const console = globalThis.console as unknown as Record<string, unknown>;
  const real: Record<string, unknown> = {};
  for (const method of Object.keys(own)) {
    const write = own[method];
    if (typeof write !== 'function' || typeof console[method] !== 'function') continue;
    real[method] = console[method];
    console[method] = write.bind(own);
  }
  // Also capture direct writes to the stream; the command keeps the original function.
  const { write } = process.stdout;
  process.stdout.write = ((chunk: string | Uint8Array, encoding?: unknown, done?: unknown) => {
    before();
    stderr.write(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString());
    const called = typeof encoding === 'function' ? encoding : done;
    if (typeof called === 'function') process.nextTick(called);
    return true;
  }) as typeof write;
  return () => {
    Object.assign(console, real);
    process.stdout.write = write;
  };
}
