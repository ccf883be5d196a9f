/** What the module prints while it is loaded and played goes to stderr: stdout is the report's, and the same for the same seed. */
import { Console } from 'node:console';
import { Writable } from 'node:stream';
import type { Logger } from 'escapement';
import type { Output } from './io.ts';

const loggerKey = Symbol.for('escapement.logger');
const toldKey = Symbol.for('escapement.told');

/**
 * Takes the lines of applications that name no logger, which are the engine's warnings and what it says about the application. What events say too
 * is left out. Called before the module is loaded, whose definitions may be warned of.
 * @returns the function that gives them back to the console
 */
export function captureLogger(
  write: (level: 'info' | 'warn' | 'error', fields: Readonly<Record<string, unknown>>, message: string) => void,
): () => void {
  const home = globalThis as { [loggerKey]?: Logger | undefined };
  const line = (level: 'info' | 'warn' | 'error') => (fields: object, message: string) => {
    if (!(toldKey in fields)) write(level, { ...fields }, message);
  };
  home[loggerKey] = { debug() {}, info: line('info'), warn: line('warn'), error: line('error') };
  return () => {
    home[loggerKey] = undefined;
  };
}

/** @param before called before anything is written @returns the function that restores the console */
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
  // What writes to the stream itself; the command holds the function that it had.
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
